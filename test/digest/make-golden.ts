// Writes hashtextextended.json anew. Run: node <compiled>/test/digest/make-golden.js
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { startServer } from '../support/postgres.js';
import { goldenPath, type GoldenFile } from './golden-file.js';

const LONGEST = 40;

/** Zero (not mixed in), one half zero, the extremes, and some without a pattern. */
const SEEDS = [
  ...[0n, 1n, -1n, 1n << 32n, -(1n << 32n), 0x8000_0000n, -(1n << 63n), (1n << 63n) - 1n],
  ...Array.from({ length: 4 }, () => BigInt.asIntN(64, randomBytes(8).readBigUInt64LE())),
];

const UTF8 = [
  'é',
  '€',
  '𝄞',
  'Ærøskøbing',
  'naïve café',
  '日本語のテキスト',
  '\u{1f468}\u{200d}\u{1f469}',
  'ß'.repeat(17),
];

/** Any bytes but NUL: they are hashed as text of a database without an encoding. */
function inputs(): Buffer[] {
  const patterns: ((at: number, length: number) => number)[] = [
    () => 0x01,
    () => 0xff,
    (at, length) => ((at * 7 + length) % 255) + 1,
    () => (randomBytes(1)[0] ?? 0) || 1,
  ];
  const byLength = Array.from({ length: LONGEST + 1 }, (_, length) =>
    patterns.map((pattern) => Buffer.from(Array.from({ length }, (_, at) => pattern(at, length)))),
  );
  const singles = Array.from({ length: 255 }, (_, i) => Buffer.of(i + 1));
  return [...byLength.flat(), ...singles, ...UTF8.map((text) => Buffer.from(text))];
}

const server = await startServer();
try {
  await server.query(
    'postgres',
    `CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`,
  );
  const questions = inputs().flatMap((bytes, i) => {
    // Every input under three seeds, so that each length meets each seed in some pattern.
    const seeds = [0, 1, 2].map((step) => SEEDS[(i * 3 + step) % SEEDS.length] ?? 0n);
    return seeds.map((seed) => [bytes.toString('hex'), String(seed)] as const);
  });
  const rows = await server.query(
    'bytes',
    `SELECT hashtextextended(convert_from(decode(hex, 'hex'), 'SQL_ASCII') COLLATE "C", seed)::text
       FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS q(hex, seed, n) ORDER BY n`,
    [0, 1].map((part) => `{${questions.map((question) => `"${question[part] ?? ''}"`).join()}}`),
  );
  const [[serverVersion] = []] = await server.query('postgres', 'SHOW server_version');
  const golden: GoldenFile = {
    serverVersion: serverVersion ?? '',
    vectors: questions.map(([hex, seed], i) => [hex, seed, rows[i]?.[0] ?? ''] as const),
  };
  const lines = golden.vectors.map((vector) => `    ${JSON.stringify(vector)}`).join(',\n');
  const header = `  "serverVersion": ${JSON.stringify(golden.serverVersion)}`;
  writeFileSync(goldenPath(), `{\n${header},\n  "vectors": [\n${lines}\n  ]\n}\n`);
  console.log(`${golden.vectors.length} vectors in ${goldenPath()}`);
} finally {
  await server.stop();
}
