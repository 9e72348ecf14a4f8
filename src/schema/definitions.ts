import type { Session } from '../postgres/session.js';
import { inSnapshot } from '../postgres/transaction.js';
import { DEFINITION_QUERIES, type ObjectKind } from './definition-queries.js';

/** One object of a schema as one node has it. */
export interface Definition {
  readonly kind: ObjectKind;
  /** Qualified and quoted; unique among those of its kind. */
  readonly name: string;
  /** The object without which it is nothing; null: none. */
  readonly parent: string | null;
  readonly facts: Readonly<Record<string, string | null>>;
  /** Owns it; null: a user does. */
  readonly extension: string | null;
}

/** Everything in the schema, in one snapshot; empty where there is no such schema. */
export async function readDefinitions(
  session: Session,
  schema: string,
  signal?: AbortSignal,
): Promise<Definition[]> {
  return inSnapshot(session, async () => {
    const found: Definition[] = [];
    for (const { kind, sql } of DEFINITION_QUERIES) {
      // Two of them are of the database, and take no parameter.
      const params = sql.includes('$1') ? [schema] : [];
      for (const [name, parent, facts, extension] of await session.query(sql, params, signal)) {
        found.push({
          kind,
          name: name ?? '',
          parent: parent ?? null,
          facts: JSON.parse(facts ?? '{}') as Record<string, string | null>,
          extension: extension ?? null,
        });
      }
    }
    return found;
  });
}
