import type { Definition } from './definitions.js';

export interface LeftOutObjects {
  readonly reason: string;
  /** Names, sorted. */
  readonly objects: readonly string[];
}

export interface Sifted {
  readonly nodes: ReadonlyMap<string, readonly Definition[]>;
  readonly leftOut: readonly LeftOutObjects[];
}

/**
 * Leaves out what extensions own on any node, the tables that `isSkipped` names, and all their parts;
 * extensions themselves stay.
 */
export function sift(
  nodes: ReadonlyMap<string, readonly Definition[]>,
  isSkipped: (table: Definition) => boolean,
): Sifted {
  const reasons = new Map<string, string>();
  for (const definition of [...nodes.values()].flat()) {
    const { kind, name, extension } = definition;
    if (kind === 'table' && isSkipped(definition))
      reasons.set(idOf(definition), 'left out as asked');
    else if (extension !== null) reasons.set(idOf(definition), `belongs to extension ${extension}`);
    if (reasons.has(idOf(definition)) && (kind === 'table' || kind === 'view'))
      reasons.set(name, '');
  }
  const isOut = (definition: Definition): boolean =>
    reasons.has(idOf(definition)) || (definition.parent !== null && reasons.has(definition.parent));
  const byReason = new Map<string, string[]>();
  for (const [id, reason] of reasons) {
    if (reason === '') continue;
    byReason.set(reason, [...(byReason.get(reason) ?? []), id]);
  }
  return {
    nodes: new Map(
      Array.from(nodes, ([node, definitions]) => [node, definitions.filter((one) => !isOut(one))]),
    ),
    leftOut: Array.from(byReason, ([reason, objects]) => ({ reason, objects: objects.sort() })),
  };
}

function idOf({ kind, name }: Definition): string {
  return `${kind} ${name}`;
}
