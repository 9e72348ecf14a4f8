import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

interface Target {
  readonly host: string;
  readonly port: number;
}

/**
 * A TCP proxy that can stop forwarding without closing anything, as a host that vanishes does, and
 * lead elsewhere, as an address that moves does.
 */
export class Proxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: Target;
  #isForwarding = true;

  private constructor(server: Server, target: Target) {
    this.#server = server;
    this.#target = target;
  }

  static async start(target: Target): Promise<Proxy> {
    const server = createServer();
    const proxy = new Proxy(server, target);
    server.on('connection', (inbound) => {
      const outbound = connect(proxy.#target.port, proxy.#target.host);
      proxy.#join(inbound, outbound);
      proxy.#join(outbound, inbound);
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** New connections go to `target`. Those that are there stay. */
  leadTo(target: Target): void {
    this.#target = target;
  }

  /** Bytes are swallowed from now on, in both directions; the connections stay open. */
  stopForwarding(): void {
    this.#isForwarding = false;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (chunk: Buffer) => {
      if (this.#isForwarding) to.write(chunk);
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      if (this.#isForwarding) to.destroy();
    });
  }
}
