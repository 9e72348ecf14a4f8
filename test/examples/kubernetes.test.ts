import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig, type LoadedConfig } from '../../src/config/load.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

interface Container {
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly volumeMounts: readonly { readonly mountPath: string; readonly readOnly?: boolean }[];
}

interface Manifest {
  readonly kind: string;
  readonly data?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
  readonly spec?: {
    readonly replicas?: number;
    readonly template?: {
      readonly spec: {
        readonly containers: readonly Container[];
        readonly securityContext: { readonly runAsUser: number };
      };
    };
  };
}

describe('examples for Kubernetes', () => {
  // Tests run from the root of the checkout.
  const manifests = parseAllDocuments(readFileSync('examples/kubernetes/aced.yaml', 'utf8')).map(
    (document) => document.toJS() as Manifest,
  );
  const find = (kind: string): Manifest =>
    manifests.find((one) => one.kind === kind) ?? assert.fail(kind);
  const pod = find('StatefulSet').spec?.template?.spec;
  const container = pod?.containers[0] ?? assert.fail('no container');
  let root: string;
  let loaded: LoadedConfig;

  before(async () => {
    root = await scratchDirectory();
    await mkdir(join(root, 'credentials'));
    for (const [name, text] of Object.entries(find('Secret').stringData ?? {})) {
      await writeFile(join(root, 'credentials', name), text);
    }
    await writeFile(join(root, 'aced.yaml'), find('ConfigMap').data?.['aced.yaml'] ?? '');
    const env = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    assert.deepEqual(Object.keys(env), ['CREDENTIALS_DIRECTORY', 'ACED_CONFIG']);
    loaded = await loadConfig({
      overrides: {},
      env: {
        CREDENTIALS_DIRECTORY: join(root, 'credentials'),
        ACED_CONFIG: join(root, 'aced.yaml'),
      },
      cwd: root,
      home: root,
    });
  });
  after(() => removeDirectory(root));

  it('configure three nodes with settings that there are', () => {
    assert.deepEqual([loaded.ignored, loaded.misspelt], [[], []]);
    assert.equal(loaded.config.cluster, 'prod');
    assert.equal(loaded.config.nodes.length, 3);
  });

  it('ask the port of metrics whether it lives, and write to volumes only', () => {
    const { metrics, stateDir, socketPath } = loaded.config;
    const [port] = container.ports;
    assert.deepEqual([metrics.host, metrics.port], ['0.0.0.0', port?.containerPort]);
    for (const { httpGet } of [container.startupProbe, container.livenessProbe]) {
      assert.deepEqual(httpGet, { path: '/health', port: port?.name });
    }
    const writable = container.volumeMounts.filter(({ readOnly }) => readOnly !== true);
    for (const path of [stateDir, socketPath]) {
      assert.ok(
        writable.some(({ mountPath }) => path.startsWith(`${mountPath}/`)),
        path,
      );
    }
  });

  it('run one daemon, as the user of the image', () => {
    assert.equal(find('StatefulSet').spec?.replicas, 1);
    const compose = parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true }) as {
      services: { aced: { build: { dockerfile_inline: string } } };
    };
    const { dockerfile_inline: dockerfile } = compose.services.aced.build;
    assert.match(dockerfile, new RegExp(`--uid ${pod?.securityContext.runAsUser} `));
  });
});
