import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { buildTableSpec } from '../../src/table/build-spec.js';
import type { CollationInfo, ColumnInfo, TableInfo } from '../../src/table/table-info.js';
import { hashFormOf, type ValueForm } from '../../src/digest/digest-column.js';
import { digestId, type TableSpec } from '../../src/table/table-spec.js';
import { BUILT_IN_OPERATORS, BUILT_IN_KEY } from '../support/key-column.js';

const ICU: CollationInfo = {
  name: 'pg_catalog."default"',
  provider: 'i',
  locale: 'en-US',
  version: '153.80',
  isDeterministic: true,
  isByteOrder: false,
};
const C: CollationInfo = {
  ...ICU,
  name: 'pg_catalog."C"',
  provider: 'c',
  locale: 'C',
  version: null,
  isByteOrder: true,
};

const TYPES: Readonly<Record<string, { oid: number; category: string; hasTextCast?: boolean }>> = {
  integer: { oid: 23, category: 'N' },
  bigint: { oid: 20, category: 'N' },
  text: { oid: 25, category: 'S' },
  'character varying': { oid: 1043, category: 'S' },
  bpchar: { oid: 1042, category: 'S', hasTextCast: true },
  numeric: { oid: 1700, category: 'N' },
  uuid: { oid: 2950, category: 'U' },
  boolean: { oid: 16, category: 'B', hasTextCast: true },
  bytea: { oid: 17, category: 'U' },
  interval: { oid: 1186, category: 'T' },
  date: { oid: 1082, category: 'D' },
  'timestamp with time zone': { oid: 1184, category: 'D' },
};

function column(name: string, typeName: string, changes: Partial<ColumnInfo> = {}): ColumnInfo {
  const type = TYPES[typeName] ?? { oid: 90_000, category: 'U' };
  return {
    name,
    attnum: 1,
    typeOid: type.oid,
    typeName,
    declaredType: typeName,
    storedType: changes.declaredType ?? typeName,
    typeModifier: -1,
    baseTypeOid: type.oid,
    baseTypeName: typeName,
    baseTypeSql: `pg_catalog.${typeName}`,
    baseTypeCategory: type.category,
    baseTypeKind: 'b',
    enumLabels: null,
    hasTextCast: type.hasTextCast ?? false,
    foreignText: null,
    isGenerated: false,
    generatedAs: null,
    identity: null,
    isNullable: true,
    collation: type.category === 'S' ? ICU : null,
    ...changes,
  };
}

function table(columns: ColumnInfo[], changes: Partial<TableInfo> = {}): TableInfo {
  return {
    oid: 1,
    schema: 'public',
    name: 't',
    isPartitioned: false,
    databaseEncoding: 'UTF8',
    databaseLocale: 'ICU en-US 153.120',
    columns,
    primaryKey: ['id'],
    keyOperators: (changes.primaryKey ?? ['id']).map(() => BUILT_IN_OPERATORS),
    isKeyOrdered: true,
    replicaIdentity: 'default',
    estimatedRows: -1,
    keyCorrelation: null,
    leaves: null,
    fingerprint: '',
    ...changes,
  };
}

function nodes(...tables: TableInfo[]): Map<string, TableInfo> {
  return new Map(tables.map((one, index) => [`n${index + 1}`, one]));
}

function fails(code: string, message: RegExp, infos: Map<string, TableInfo>): void {
  assert.throws(
    () => buildTableSpec(infos),
    (error) => {
      assert.ok(error instanceof AcedError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    },
  );
}

const ID = column('id', 'bigint');

describe('buildTableSpec', () => {
  it('takes the columns that all nodes have, sorted by the bytes of their names', () => {
    const names = ['ä', 'b', 'Z', 'id', 'a_'];
    const columns = names.map((name) => (name === 'id' ? ID : column(name, 'text')));
    const spec = buildTableSpec(nodes(table(columns), table(columns.toReversed())));
    assert.deepEqual(
      spec.columns.map(({ name }) => name),
      ['Z', 'a_', 'b', 'id', 'ä'],
    );
    assert.deepEqual(spec.key, [
      {
        ...{ name: 'id', typeName: 'pg_catalog.bigint', textForm: 'plain', orderKind: 'integer' },
        ...{ collate: null, ...BUILT_IN_KEY },
      },
    ]);
    assert.equal(spec.warnings, undefined);
  });

  it('excludes what some node lacks or computes, and says why', () => {
    const gen = column('total', 'integer', { isGenerated: true });
    const spec = buildTableSpec(
      nodes(
        table([ID, gen, column('half', 'text'), column('extra', 'text')]),
        table([ID, gen, column('half', 'text', { isGenerated: true })]),
        table([ID, gen, column('half', 'text')]),
      ),
    );
    assert.deepEqual(spec.excluded, [
      { name: 'extra', reason: 'missing on n2, n3', cause: 'missing' },
      { name: 'half', reason: 'generated column on n2', cause: 'missing' },
      { name: 'total', reason: 'generated column', cause: 'generated' },
    ]);
  });

  it('a generated column is equal where it is made in the same way, and nothing is known of it elsewhere', () => {
    const g = (generatedAs: string): TableInfo =>
      table([ID, column('g', 'integer', { isGenerated: true, generatedAs })]);
    const excluded = (...tables: TableInfo[]): unknown => buildTableSpec(nodes(...tables)).excluded;
    assert.deepEqual(excluded(g('(a + 1)'), g('(a + 1)')), [
      { name: 'g', reason: 'generated column', cause: 'generated' },
    ]);
    assert.deepEqual(excluded(g('(a + 1)'), g('(a + 1)'), g('(a + 2)')), [
      { name: 'g', reason: 'generated in another way on n3 than on n1', cause: 'missing' },
    ]);
  });

  it('leaves out what the user names, whatever its types, but no key', () => {
    const infos = nodes(
      table([ID, column('v', 'integer'), column('w', 'text')]),
      table([ID, column('v', 'text')]),
    );
    const spec = buildTableSpec(infos, { leftOut: ['v', 'w', 'unknown'] });
    assert.deepEqual(
      spec.excluded.map(({ name, cause }) => [name, cause]),
      [
        ['v', 'named'],
        ['w', 'named'],
      ],
    );
    assert.throws(() => buildTableSpec(infos, { leftOut: ['id', 'v', 'w'] }), {
      code: 'UNSUPPORTED',
    });
  });

  it('compares only the columns that are asked for, and those of the key', () => {
    const columns = [ID, column('a', 'text'), column('b', 'text')];
    const infos = nodes(table(columns), table(columns));
    const spec = buildTableSpec(infos, { only: ['b'] });
    assert.deepEqual(
      spec.columns.map(({ name }) => name),
      ['b', 'id'],
    );
    assert.deepEqual(spec.excluded, [{ name: 'a', reason: 'not among --columns', cause: 'named' }]);
    const both = buildTableSpec(infos, { only: ['a', 'b'], leftOut: ['b'] });
    assert.deepEqual(
      both.excluded.map(({ name }) => name),
      ['b'],
    );
  });

  it('leaves text that other objects change out of trees only', () => {
    const v = column('v', 'regclass', { foreignText: 'regclass' });
    const infos = nodes(table([ID, v]), table([ID, v]));
    assert.deepEqual(buildTableSpec(infos).excluded, []);
    const [excluded] = buildTableSpec(infos, { isTree: true }).excluded;
    assert.deepEqual([excluded?.name, excluded?.cause], ['v', 'unstable']);
  });

  it('compares types of one family as the widest of them, with a warning, in a key too', () => {
    for (const [one, other] of [
      ['integer', 'bigint'],
      ['character varying', 'text'],
    ] as const) {
      const spec = buildTableSpec(
        nodes(table([ID, column('v', one)]), table([ID, column('v', other)])),
      );
      assert.match(spec.warnings?.[0] ?? '', /v is declared differently/);
      const valueForm = one === 'integer' ? { valueForm: 'int8' } : {};
      assert.deepEqual(spec.columns[1], { name: 'v', textForm: 'plain', ...valueForm });
    }
    const [key] = buildTableSpec(nodes(table([column('id', 'integer')]), table([ID]))).key;
    assert.deepEqual([key?.typeName, key?.orderKind], ['pg_catalog.bigint', 'integer']);
    fails('SCHEMA_MISMATCH', /id/, nodes(table([ID]), table([column('id', 'numeric')])));
  });

  it('hashes by value what every node proves to hash alike, and a numeric only with a scale', () => {
    const scaled = { typeModifier: 655_366 };
    const infos = nodes(
      table([ID, column('n', 'numeric', scaled), column('u', 'uuid'), column('d', 'date')]),
      table([ID, column('n', 'numeric', scaled), column('u', 'uuid'), column('d', 'date')]),
    );
    const forms = (spec: TableSpec): string[] => spec.columns.map(hashFormOf);
    assert.deepEqual(forms(buildTableSpec(infos)), ['date', 'int8', 'decimal', 'uuid']);
    const unproved = new Set<ValueForm>(['decimal', 'date']);
    const spec = buildTableSpec(infos, { unproved });
    assert.deepEqual(forms(spec), ['plain', 'int8', 'plain', 'uuid']);
    assert.notEqual(digestId('seed', spec), digestId('seed', buildTableSpec(infos)));
    const loose = nodes(
      table([ID, column('n', 'numeric', scaled)]),
      table([ID, column('n', 'numeric')]),
    );
    assert.deepEqual(forms(buildTableSpec(loose)), ['int8', 'numeric']);
  });

  it('refuses columns of different types', () => {
    fails(
      'SCHEMA_MISMATCH',
      /column v .*integer on n1 but text on n2/,
      nodes(table([ID, column('v', 'integer')]), table([ID, column('v', 'text')])),
    );
    const domain = { baseTypeOid: 25, baseTypeName: 'text', declaredType: 'public.d' };
    fails(
      'SCHEMA_MISMATCH',
      /a domain over text\) on n1 .*a domain over integer\) on n2/,
      nodes(
        table([ID, column('v', 'public.d', domain)]),
        table([
          ID,
          column('v', 'public.d', { ...domain, baseTypeOid: 23, baseTypeName: 'integer' }),
        ]),
      ),
    );
  });

  it('writes numerics of different scale without trailing zeros', () => {
    const spec = buildTableSpec(
      nodes(
        table([
          ID,
          column('v', 'numeric', { declaredType: 'numeric(10,2)', typeModifier: 655_366 }),
        ]),
        table([
          ID,
          column('v', 'numeric', { declaredType: 'numeric(12,4)', typeModifier: 786_440 }),
        ]),
      ),
    );
    assert.equal(spec.columns.find(({ name }) => name === 'v')?.textForm, 'numeric');
    assert.match(spec.warnings?.[0] ?? '', /numeric\(10,2\) on n1, numeric\(12,4\) on n2/);
  });

  it('keeps numerics of the same scale as they are', () => {
    const v = column('v', 'numeric', { declaredType: 'numeric(10,2)', typeModifier: 655_366 });
    const spec = buildTableSpec(nodes(table([ID, v]), table([ID, v])));
    assert.equal(spec.columns.find(({ name }) => name === 'v')?.textForm, 'plain');
  });

  it('allows another length of varchar with a warning, but not of char', () => {
    const declared = (type: string, length: number): TableInfo =>
      table([ID, column('v', type, { declaredType: `${type}(${length})`, typeModifier: length })]);
    const spec = buildTableSpec(
      nodes(declared('character varying', 10), declared('character varying', 20)),
    );
    assert.equal(spec.warnings?.length, 1);
    fails('SCHEMA_MISMATCH', /v/, nodes(declared('bpchar', 10), declared('bpchar', 20)));
  });

  it('looks into domains: one name may stand for another length or scale', () => {
    const v = (type: string, length: number): TableInfo =>
      table([
        ID,
        column('v', type, {
          ...{ typeName: 'public.d', declaredType: 'public.d', typeModifier: length },
          storedType: `${type}(${length})`,
        }),
      ]);
    const charsDiffer = new Map([
      ['n1', v('bpchar', 5)],
      ['n2', v('bpchar', 8)],
    ]);
    assert.throws(() => buildTableSpec(charsDiffer), {
      code: 'SCHEMA_MISMATCH',
      message:
        'column v of public.t is written differently by its types: public.d (bpchar(5)) on n1, public.d (bpchar(8)) on n2',
    });
    const spec = buildTableSpec(
      new Map([
        ['n1', v('numeric', 5)],
        ['n2', v('numeric', 8)],
      ]),
    );
    assert.equal(spec.columns.find(({ name }) => name === 'v')?.textForm, 'numeric');
  });

  it('needs a key, and the same one everywhere', () => {
    fails('NO_PRIMARY_KEY', /n2/, nodes(table([ID]), table([ID], { primaryKey: [] })));
    const columns = [ID, column('b', 'integer')];
    fails(
      'SCHEMA_MISMATCH',
      /\(id\) on n1 but \(id, b\) on n2/,
      nodes(table(columns), table(columns, { primaryKey: ['id', 'b'] })),
    );
  });

  it('accepts a key in another column order, with a warning', () => {
    const columns = [ID, column('b', 'integer')];
    const spec = buildTableSpec(
      nodes(
        table(columns, { primaryKey: ['b', 'id'] }),
        table(columns, { primaryKey: ['id', 'b'] }),
      ),
    );
    assert.deepEqual(
      spec.key.map(({ name }) => name),
      ['b', 'id'],
    );
    assert.match(spec.warnings?.[0] ?? '', /n2/);
  });

  it('refuses a key with a generated column', () => {
    fails('UNSUPPORTED', /id/, nodes(table([column('id', 'bigint', { isGenerated: true })])));
  });
});

describe('order of keys', () => {
  const keyOf = (...columns: ColumnInfo[]): object => {
    const [key] = buildTableSpec(nodes(...columns.map((one) => table([one])))).key;
    return { orderKind: key?.orderKind, collate: key?.collate };
  };
  const BYTES_FORCED = { orderKind: 'bytes', collate: 'pg_catalog."C"' };
  const SERVER = { orderKind: 'server', collate: null };

  const kinds: readonly (readonly [string, string])[] = [
    ['integer', 'integer'],
    ['uuid', 'uuid'],
    ['boolean', 'boolean'],
    ['bytea', 'bytes'],
    ['date', 'date'],
    ['timestamp with time zone', 'timestamp'],
    ['numeric', 'numeric'],
    ['interval', 'server'],
    ['inet', 'server'],
  ];
  for (const [type, orderKind] of kinds) {
    it(`${type}: ${orderKind}`, () => {
      assert.deepEqual(keyOf(column('id', type), column('id', type)), { orderKind, collate: null });
    });
  }

  it('text: as the nodes sort, when they agree', () => {
    const icu = column('id', 'text');
    const c = column('id', 'text', { collation: C });
    assert.deepEqual(keyOf(icu, icu), SERVER);
    assert.deepEqual(keyOf(c, c), { orderKind: 'bytes', collate: null });
  });

  it('text: by bytes on every node, when they do not agree or it cannot be known', () => {
    const icu = column('id', 'text');
    const others: CollationInfo[] = [
      C,
      { ...ICU, version: '154.1' },
      { ...ICU, locale: 'de-DE' },
      { ...ICU, provider: 'c' },
    ];
    for (const collation of others) {
      assert.deepEqual(keyOf(icu, column('id', 'text', { collation })), BYTES_FORCED);
    }
    const musl = column('id', 'text', { collation: { ...ICU, provider: 'c', version: null } });
    assert.deepEqual(keyOf(musl, musl), BYTES_FORCED);
    const fuzzy = column('id', 'text', { collation: { ...ICU, isDeterministic: false } });
    assert.deepEqual(keyOf(fuzzy, fuzzy), BYTES_FORCED);
    const newer = { ...ICU, isDeterministic: false, version: '154.1' };
    assert.deepEqual(keyOf(fuzzy, column('id', 'text', { collation: newer })), BYTES_FORCED);
    const german = { ...ICU, isDeterministic: false, locale: 'de-DE' };
    for (const other of [icu, column('id', 'text', { collation: german })]) {
      assert.throws(() => keyOf(fuzzy, other), {
        code: 'SCHEMA_MISMATCH',
        message: /they do not call the same keys equal/,
      });
    }
  });

  it('text: different byte-order collations agree', () => {
    const builtin = { ...C, provider: 'b', locale: 'C.UTF-8', version: '1' };
    assert.deepEqual(
      keyOf(column('id', 'text', { collation: C }), column('id', 'text', { collation: builtin })),
      { orderKind: 'bytes', collate: null },
    );
  });

  it('char(n): only the server knows', () => {
    const padded = column('id', 'bpchar');
    assert.deepEqual(keyOf(padded, padded), SERVER);
    assert.deepEqual(keyOf(padded, column('id', 'bpchar', { collation: C })), {
      orderKind: 'server',
      collate: 'pg_catalog."C"',
    });
  });

  it('brings texts of LATIN1 to UTF-8, but for no tree; other encodings are refused', () => {
    const columns = [column('id', 'integer'), column('v', 'text')];
    const latin = table(columns, { databaseEncoding: 'LATIN1' });
    for (const infos of [nodes(latin, latin), nodes(table(columns), latin)]) {
      const spec = buildTableSpec(infos);
      assert.ok(spec.columns.every(({ isTranscoded }) => isTranscoded === true));
      assert.throws(() => buildTableSpec(infos, { isTree: true }), { code: 'UNSUPPORTED' });
    }
    const utf8 = buildTableSpec(nodes(table(columns), table(columns)));
    assert.ok(utf8.columns.every(({ isTranscoded }) => isTranscoded === undefined));
    const other = table(columns, { databaseEncoding: 'WIN1252' });
    fails('UNSUPPORTED', /WIN1252; only UTF8 and LATIN1/, nodes(table(columns), other));
  });

  it('enums must have the same labels in the same order', () => {
    const labelled = (enumLabels: string[]): TableInfo =>
      table([column('id', 'public.mood', { baseTypeKind: 'e', enumLabels })]);
    assert.equal(
      buildTableSpec(nodes(labelled(['a', 'b']), labelled(['a', 'b']))).key[0]?.orderKind,
      'server',
    );
    fails('SCHEMA_MISMATCH', /enum/, nodes(labelled(['a', 'b']), labelled(['b', 'a'])));
  });
});
