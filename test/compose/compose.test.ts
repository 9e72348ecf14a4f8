import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { before, describe, it } from 'node:test';
import { parse } from 'yaml';

interface Service {
  readonly image?: string;
  readonly command?: readonly string[];
  readonly build?: { readonly dockerfile_inline: string };
  readonly environment?: Readonly<Record<string, string>>;
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
}

describe('docker-compose.yml', () => {
  let compose: ComposeFile;
  before(async () => {
    // Tests run from the root of the checkout.
    const text = await readFile('docker-compose.yml', 'utf8');
    compose = parse(text, { merge: true }) as ComposeFile;
  });

  it('has a service for every node of the service file, with logical WAL', () => {
    const sections = compose.configs['pg_service.conf']?.content.matchAll(
      /^\[demo\.(\w+)\]\nhost=(\w+)$/gm,
    );
    const nodes = [...(sections ?? [])].map(([, name, host]) => ({ name, host }));
    assert.deepEqual(
      nodes.map(({ name }) => name),
      ['n1', 'n2', 'n3'],
    );
    for (const { name = '', host } of nodes) {
      const node = compose.services[name];
      assert.equal(name, host);
      assert.equal(node?.image, 'postgres:18');
      assert.ok(node.command?.includes('-cwal_level=logical'));
    }
    assert.equal(compose.services['mesh']?.environment?.['NODES'], 'n1 n2 n3');
  });

  it('mounts only configs that it defines', () => {
    for (const { configs = [] } of Object.values(compose.services)) {
      for (const { source } of configs) assert.ok(compose.configs[source], source);
    }
    const target = compose.services['aced']?.configs?.[0]?.target;
    assert.equal(compose.services['aced']?.environment?.['PGSERVICEFILE'], target);
  });

  it('copies into the image what the checkout has, and links the programs of package.json', async () => {
    const dockerfile = compose.services['aced']?.build?.dockerfile_inline ?? '';
    const copied = [...dockerfile.matchAll(/^COPY (?!--)(.+) \S+$/gm)].flatMap(([, list = '']) =>
      list.split(' '),
    );
    assert.ok(copied.length > 0);
    for (const path of copied) assert.ok(existsSync(path), path);
    const { bin } = JSON.parse(await readFile('package.json', 'utf8')) as {
      bin: Record<string, string>;
    };
    for (const [name, path] of Object.entries(bin)) {
      assert.ok(dockerfile.includes(`ln -s /opt/aced/${path} /usr/local/bin/${name}`), name);
    }
  });
});
