import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium, type Browser } from 'playwright-core';

/**
 * A headless Chromium out of an npm package, unpacked into this directory. Root may run it: there is no
 * sandbox, and it opens files of ours only.
 */
export async function startBrowser(directory: string): Promise<Browser> {
  const home = join(directory, 'chromium');
  await mkdir(home);
  // The package unpacks into the temporary directory, and leaves it there.
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = home;
  try {
    const { default: packaged } = await import('@sparticuz/chromium');
    return await chromium.launch({
      executablePath: await packaged.executablePath(),
      args: packaged.args,
      headless: true,
    });
  } finally {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
  }
}
