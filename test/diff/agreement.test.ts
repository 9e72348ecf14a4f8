import assert from 'node:assert/strict';
import { it } from 'node:test';
import { agreeingNodes } from '../../src/diff/agreement.js';

it('puts nodes together whose pairs have no differences', () => {
  const nodes = ['n2', 'n10', 'n1', 'n3'];
  assert.deepEqual(agreeingNodes(nodes, {}), [['n2', 'n10', 'n1', 'n3']]);
  const one = { 'n2/n3': 1, 'n10/n2': 2, 'n1/n2': 1 };
  assert.deepEqual(agreeingNodes(nodes, one), [['n2'], ['n10', 'n1', 'n3']]);
  const two = { 'n1/n2': 1, 'n1/n10': 1, 'n2/n3': 1, 'n10/n3': 1 };
  assert.deepEqual(agreeingNodes(nodes, two), [
    ['n2', 'n10'],
    ['n1', 'n3'],
  ]);
  assert.deepEqual(agreeingNodes(['a', 'b'], { 'a/b': 3 }), [['a'], ['b']]);
});
