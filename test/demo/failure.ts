/** Something did not come out as the demo promises. */
export class DemoFailure extends Error {
  override readonly name = 'DemoFailure';
}

export function expect(isTrue: boolean, otherwise: string): asserts isTrue {
  if (!isTrue) throw new DemoFailure(otherwise);
}
