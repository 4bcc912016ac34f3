// How long files may be. A file past the soft cap is reported and tolerated; past the hard cap it has to be split.
import { describe, expect, it } from "vitest";
import { isCheckout, projectFiles, readProjectFile, sourceFiles } from "./source-files.ts";

const SOFT_CAP_LINES = 400;
const HARD_CAP_LINES = 600;
/** Of src without tests: below, the code is in crumbs; above, in lumps. */
const MEDIAN_LINES = { least: 40, most: 250 };

const lineCount = (path: string) => readProjectFile(path).split("\n").length - 1;

describe.skipIf(!isCheckout())("file sizes", () => {
  const files = projectFiles({ untracked: true });
  const sizes = files
    .filter((path) => /^(src|test|scripts|bench|examples)\/.*\.ts$/.test(path))
    .map((path) => ({ path, lines: lineCount(path) }));

  it(`no file is longer than ${HARD_CAP_LINES} lines`, () => {
    const long = sizes.filter(({ lines }) => lines > SOFT_CAP_LINES);
    const report = long.map(({ path, lines }) => `${path}: ${lines} lines`);
    if (report.length > 0)
      console.warn(`Longer than ${SOFT_CAP_LINES} lines, split when next touched:\n${report.join("\n")}`);
    expect(long.filter(({ lines }) => lines > HARD_CAP_LINES)).toEqual([]);
  });

  it("the median source file is neither a crumb nor a lump", () => {
    const lines = sourceFiles(files)
      .map(lineCount)
      .sort((a, b) => a - b);
    if (lines.length <= 20) return; // too few for a median to say anything
    const median = lines[Math.floor(lines.length / 2)];
    expect(median).toBeGreaterThanOrEqual(MEDIAN_LINES.least);
    expect(median).toBeLessThanOrEqual(MEDIAN_LINES.most);
  });
});
