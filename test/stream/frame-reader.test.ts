import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AcedError } from '../../src/base/errors.js';
import { FrameReader } from '../../src/stream/frame-reader.js';

interface Frame {
  readonly type: number;
  readonly content: string;
}

function frameBytes({ type, content }: Frame): Buffer {
  const body = Buffer.from(content, 'latin1');
  const bytes = Buffer.alloc(5 + body.length);
  bytes[0] = type;
  bytes.writeUInt32BE(4 + body.length, 1);
  body.copy(bytes, 5);
  return bytes;
}

function collector(): { reader: FrameReader; frames: Frame[] } {
  const frames: Frame[] = [];
  const reader = new FrameReader((type, buffer, start, end) => {
    frames.push({ type, content: buffer.toString('latin1', start, end) });
  });
  return { reader, frames };
}

const FRAMES: readonly Frame[] = [
  { type: 0x57, content: '' },
  { type: 0x64, content: 'w' },
  { type: 0x64, content: 'some content that is longer than a header' },
  { type: 0x64, content: '' },
  { type: 0x64, content: '\xff'.repeat(300) },
  { type: 0x5a, content: 'I' },
];
const ALL = Buffer.concat(FRAMES.map(frameBytes));

describe('FrameReader', () => {
  it('finds the frames whatever the size of the chunks', () => {
    for (let size = 1; size <= ALL.length; size++) {
      const { reader, frames } = collector();
      for (let at = 0; at < ALL.length; at += size) {
        // A copy that is overwritten afterwards: nothing may be kept by reference.
        const chunk = Buffer.from(ALL.subarray(at, at + size));
        reader.push(chunk);
        chunk.fill(0xee);
      }
      assert.deepEqual(frames, FRAMES, `chunks of ${size} bytes`);
      assert.equal(reader.frames, FRAMES.length);
    }
  });

  it('finds the frames wherever they are split', () => {
    const frame = fc.record(
      {
        type: fc.integer({ min: 0, max: 255 }),
        content: fc.integer({ min: 0, max: 5000 }).map((length) => 'x'.repeat(length)),
      },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 10 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        (expected, cuts) => {
          const bytes = Buffer.concat(expected.map(frameBytes));
          const places = cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b);
          const { reader, frames } = collector();
          let from = 0;
          for (const to of [...places, bytes.length]) {
            reader.push(bytes.subarray(from, to));
            from = to;
          }
          assert.deepEqual(frames, expected);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('holds a huge frame in a buffer that grows with what arrives, and gives it back', () => {
    let content = Buffer.alloc(0);
    const reader = new FrameReader((_type, buffer, start, end) => {
      content = Buffer.from(buffer.subarray(start, end));
    });
    const size = 20 << 20;
    const header = Buffer.from([0x64, 0, 0, 0, 0]);
    header.writeUInt32BE(size + 4, 1);
    reader.push(header);
    assert.ok(reader.bufferBytes <= 64 << 10, 'an announced length is not allocated');
    const chunk = Buffer.alloc(64 << 10);
    for (let sent = 0; sent < size; sent += chunk.length) {
      chunk.fill((sent / chunk.length) % 251);
      reader.push(chunk);
      assert.ok(reader.bufferBytes <= Math.max(128 << 10, (sent + chunk.length) * 2 + 10));
    }
    assert.equal(content.length, size);
    for (let at = 0; at < size; at += chunk.length) {
      assert.equal(content[at], (at / chunk.length) % 251);
    }
    assert.equal(reader.bufferBytes, 0);
  });

  it('does not copy frames that are whole in a chunk', () => {
    const buffers = new Set<Buffer>();
    const reader = new FrameReader((_type, buffer) => buffers.add(buffer));
    reader.push(ALL);
    assert.deepEqual([...buffers], [ALL]);
    assert.equal(reader.bufferBytes, 0);
  });

  it('hands nothing over after stop, within a chunk too', () => {
    let count = 0;
    const reader: FrameReader = new FrameReader(() => {
      count += 1;
      if (count === 2) reader.stop();
    });
    reader.push(ALL);
    reader.push(ALL);
    assert.equal(count, 2);
  });

  it('lets an error of the handler through', () => {
    const reader = new FrameReader(() => {
      throw new RangeError('mine');
    });
    assert.throws(() => reader.push(ALL), /mine/);
  });

  for (const length of [0, 3, 0x4000_0001, 0xffff_ffff]) {
    it(`refuses the length ${length}, split or not`, () => {
      const bytes = Buffer.from([0x64, 0, 0, 0, 0, 0, 0, 0]);
      bytes.writeUInt32BE(length, 1);
      const isProtocolError = (error: unknown): boolean =>
        error instanceof AcedError && error.code === 'STREAM_PROTOCOL';
      assert.throws(() => collector().reader.push(bytes), isProtocolError);
      const { reader } = collector();
      reader.push(bytes.subarray(0, 3));
      assert.throws(() => reader.push(bytes.subarray(3)), isProtocolError);
    });
  }
});
