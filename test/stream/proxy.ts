import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A TCP proxy that can stop forwarding without closing anything, as a host that vanishes does. */
export class Proxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isForwarding = true;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(target: { host: string; port: number }): Promise<Proxy> {
    const server = createServer();
    const proxy = new Proxy(server);
    server.on('connection', (inbound) => {
      const outbound = connect(target.port, target.host);
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
