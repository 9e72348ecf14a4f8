/**
 * Groups of nodes that agree with each other, in the order of the nodes; a node that agrees with no
 * other is a group of its own. `differences`: `n1/n2`, names sorted -> rows that differ, none left out.
 */
export function agreeingNodes(
  nodes: readonly string[],
  differences: Readonly<Record<string, number>>,
): string[][] {
  const groups: string[][] = [];
  for (const node of nodes) {
    const group = groups.find(([first = '']) => (differences[pairName(first, node)] ?? 0) === 0);
    if (group === undefined) groups.push([node]);
    else group.push(node);
  }
  return groups;
}

/** As a diff file names a pair of nodes. */
function pairName(a: string, b: string): string {
  return a < b ? `${a}/${b}` : `${b}/${a}`;
}
