import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What `openssl ca` needs to make a list of revoked certificates. */
const CA_CONFIG = `[ca]
default_ca = own
[own]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 2
default_days = 2
policy = any
new_certs_dir = .
rand_serial = yes
[any]
commonName = supplied
`;

/** An authority of its own in `directory`, and the certificates that it signs there. */
export class Authority {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    writeFileSync(join(directory, 'ca.conf'), CA_CONFIG);
    writeFileSync(join(directory, 'index.txt'), '');
    writeFileSync(join(directory, 'crlnumber'), '01\n');
    this.#openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt', [
      ...['-subj', '/CN=authority of a test'],
    ]);
  }

  /** Writes `<file>.crt` and `<file>.key` (mode 0600) for this common name, valid for localhost. */
  sign(file: string, commonName: string): void {
    const request = `req -newkey rsa:2048 -nodes -keyout ${file}.key -out ${file}.csr`;
    this.#openssl(request, ['-subj', `/CN=${commonName}`]);
    writeFileSync(join(this.#directory, `${file}.ext`), 'subjectAltName=DNS:localhost\n');
    this.#openssl(
      `ca -batch -notext -config ca.conf -cert ca.crt -keyfile ca.key -extfile ${file}.ext -in ${file}.csr -out ${file}.crt`,
    );
  }

  revoke(file: string): void {
    this.#openssl(`ca -config ca.conf -cert ca.crt -keyfile ca.key -revoke ${file}.crt`);
  }

  /** Writes `crl.pem`: what is revoked by now. */
  list(): void {
    this.#openssl('ca -config ca.conf -cert ca.crt -keyfile ca.key -gencrl -out crl.pem');
  }

  #openssl(args: string, more: readonly string[] = []): void {
    execFileSync('openssl', [...args.split(' '), ...more], {
      cwd: this.#directory,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }
}
