// Bugs that other fine-tuning tools have shipped and nobody noticed, because training went on all the same: a broken mask, a dropped
// end token, a double begin token, a wrong weight when gradients add up, a row that is cut in silence, an adapter that does nothing.
// Each is one test that fails when the bug is put in. The finer laws are in the rooms' own tests.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { splitIntoPasses, supervisedPass } from "../../src/data/batches.ts";
import type { BatchExample } from "../../src/data/batches.ts";
import type { ChatMessage } from "../../src/data/chat-message.ts";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { encodePrompt } from "../../src/data/prompt.ts";
import { encodeExample } from "../../src/data/supervised-example.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import type { Tokenizer } from "../../src/data/tokenizer.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { sha256OfFile } from "../../src/model/file-hash.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import { createRandom } from "../../src/random.ts";
import { AdapterPool } from "../../src/serving/adapter-pool.ts";
import { Generator, NO_ADAPTER } from "../../src/serving/generator.ts";
import type { LoadedAdapter } from "../../src/serving/generator.ts";
import { saveAdapter } from "../../src/training/checkpoint.ts";
import { DecoderRunner } from "../../src/training/decoder-runner.ts";
import { ExampleFile } from "../../src/training/example-file.ts";
import { CHATS } from "../../src/training/line-encoding.ts";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import { SUPERVISED_LOSS } from "../../src/training/loss.ts";
import { AdamW } from "../../src/training/optimizer.ts";
import { lossAndGradients, trainStep } from "../../src/training/train-step.ts";
import { relativeError } from "./goldens.ts";

let folder: string;
let tokenizer: Tokenizer;
let config: Awaited<ReturnType<typeof openBaseModel>>["config"];
let weights: ReturnType<typeof loadDecoderWeights>;
/** Begins with a begin token of its own, as Llama 3's. */
const WITH_BEGIN =
  "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-known-bugs-"));
  await makeTinyModel(folder);
  const model = await openBaseModel(folder);
  ({ config } = model);
  weights = loadDecoderWeights(model, 128);
  await model.close();
  const tokenizerJson = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8")) as object;
  // A tokenizer that puts the begin token in front of every text it encodes, as Llama's and Gemma's do.
  const single = [
    { SpecialToken: { id: "<|endoftext|>", type_id: 0 } },
    { Sequence: { id: "A", type_id: 0 } },
  ];
  const post_processor = {
    type: "TemplateProcessing",
    single,
    pair: single,
    special_tokens: { "<|endoftext|>": { id: "<|endoftext|>", ids: [0], tokens: ["<|endoftext|>"] } },
  };
  tokenizer = createTokenizer({
    tokenizerJson: { ...tokenizerJson, post_processor },
    tokenizerConfig: { eos_token: "<|im_end|>", bos_token: "<|endoftext|>", add_bos_token: true },
  });
});
afterAll(() => rm(folder, { recursive: true }));

const encoding = () => ({
  tokenizer,
  template: createChatTemplate({
    tokenizerConfig: { bos_token: "<|endoftext|>", eos_token: "<|im_end|>", chat_template: WITH_BEGIN },
  }),
});

const CHAT: ChatMessage[] = [
  { role: "system", content: "Set the category." },
  { role: "user", content: "Please help me with my order" },
  { role: "assistant", content: "billing" },
  { role: "user", content: "thanks" },
  { role: "assistant", content: "account" },
];

const encoded = () => encodeExample(CHAT, undefined, { ...encoding(), maxLength: 128 });

/** Runners of fresh adapters on the tiny model. */
async function withRunner<T>(
  use: (parts: {
    runner: DecoderRunner;
    parameters: LoraParameters;
    optimizer: AdamW;
    recipe: JobRecipe;
  }) => Promise<T>,
): Promise<T> {
  const lora = { rank: 4, alpha: 8, dropout: 0, targetModules: [...LORA_TARGETS] };
  const parameters = new LoraParameters(config, lora);
  parameters.initialize(3);
  const optimizer = new AdamW(parameters.data.length, {
    ...{ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 },
  });
  const runner = new DecoderRunner({ config, weights, parameters, lora, threads: 1 });
  const recipe = { lora, baseModel: { id: "tiny", path: folder, sha256: "" } } as unknown as JobRecipe;
  try {
    return await use({ runner, parameters, optimizer, recipe });
  } finally {
    await runner.release();
  }
}

it("a broken mask: the loss counts the answers' tokens, and no token of system, user or a turn's head", () => {
  const { tokens, supervised } = encoded();
  const { layout, lossRows, targets } = supervisedPass([{ tokens, supervised }]);
  expect(tokenizer.decode([...targets])).toBe("billing<|im_end|>account<|im_end|>");
  // Each is predicted from the token before it.
  const before = [...lossRows].map((row) => layout.tokens[row] as number);
  expect(before).toEqual([...tokens].filter((_, i) => supervised[i + 1] === 1));
});

it("a dropped end token: every answer teaches how it ends, and an example is not padded with it", () => {
  const { tokens, supervised } = encoded();
  const end = tokenizer.tokenId("<|im_end|>");
  const taught = [...tokens].filter((token, i) => token === end && supervised[i] === 1);
  expect(taught).toHaveLength(2);
  expect(tokens.at(-1)).toBe(end);
  // System and user turns end with it, too, and teach nothing.
  expect([...tokens].filter((token) => token === end)).toHaveLength(CHAT.length);
});

it("a double begin token: the template's own is the only one, in training and in serving", () => {
  const begin = tokenizer.tokenId("<|endoftext|>");
  const prompt = encodePrompt(CHAT.slice(0, 2), undefined, encoding());
  for (const tokens of [[...encoded().tokens], prompt]) {
    expect(tokens.filter((token) => token === begin)).toHaveLength(1);
    expect(tokens[0]).toBe(begin);
  }
  expect([...encoded().tokens].slice(0, prompt.length)).toEqual(prompt);
  // What this tokenizer would do if it were let.
  expect(tokenizer.encode("thanks")).not.toContain(begin);
  expect(tokenizer.encodePlain("thanks")).not.toContain(begin);
});

it("a wrong accumulation weight: a step over several passes has the gradient of its tokens' mean, not of its passes' means", async () => {
  const random = createRandom(1);
  const example = (length: number, answers: number): BatchExample => ({
    tokens: Int32Array.from({ length }, () => random.below(config.vocabSize)),
    supervised: Uint8Array.from({ length }, (_, i) => (i >= length - answers ? 1 : 0)),
  });
  // Passes of very different numbers of supervised tokens.
  const examples = [example(100, 90), ...Array.from({ length: 8 }, () => example(90, 3)), example(12, 2)];
  expect(splitIntoPasses(examples).length).toBeGreaterThan(1);
  await withRunner(async ({ runner, parameters }) => {
    // Away from zero, so that both matrices of a pair have gradients.
    for (let i = 0; i < parameters.data.length; i++) parameters.data[i] = (random.next() - 0.5) * 0.1;
    const gradientOf = (of: BatchExample[]) => lossAndGradients(SUPERVISED_LOSS, runner, parameters, of, []);
    const whole = await gradientOf(examples);
    const expected = new Float32Array(parameters.data.length);
    let loss = 0;
    const supervised = (of: BatchExample) => of.supervised.reduce((sum, one) => sum + one, 0);
    const all = examples.reduce((sum, one) => sum + supervised(one), 0);
    for (const one of examples) {
      const alone = await gradientOf([one]);
      const share = supervised(one) / all;
      loss += share * alone.metrics.loss;
      for (const [i, value] of alone.gradients.entries())
        expected[i] = (expected[i] as number) + share * value;
    }
    expect(whole.metrics.loss).toBeCloseTo(loss, 5);
    expect(relativeError(whole.gradients, expected)).toBeLessThan(1e-4);
  });
});

it("a truncated row: what is cut is counted and told, and a row that loses its answer is refused", async () => {
  const rows = (answer: string) =>
    Array.from({ length: 10 }, (_, i) => ({
      messages: [
        { role: "user", content: `Question ${i}` },
        { role: "assistant", content: answer },
      ],
    }));
  const encode = async (answer: string, maxLength: number) => {
    const path = join(folder, "training.jsonl");
    await writeFile(
      path,
      rows(answer)
        .map((row) => `${JSON.stringify(row)}\n`)
        .join(""),
    );
    const trainingData = {
      file: "training.jsonl",
      sha256: await sha256OfFile(path, new AbortController().signal),
    };
    const recipe = { trainingData, validationData: null } as unknown as JobRecipe;
    const options = { ...encoding(), maxLength };
    const { signal } = new AbortController();
    const encoder = { encoding: CHATS, options, signal };
    return (await ExampleFile.open(folder, recipe, "training_file", encoder)).all();
  };
  const whole = await encode("a long answer in many words", 128);
  expect(whole.truncated).toEqual({ examples: 0, tokens: 0 });
  const length = whole.examples[0]?.tokens.length ?? NaN;
  const cut = await encode("a long answer in many words", length - 3);
  expect(cut.truncated).toEqual({ examples: 10, tokens: 30 });
  // Cut rows do not teach to stop: the end token went first.
  expect(cut.examples.every(({ tokens }) => tokens.at(-1) !== tokenizer.tokenId("<|im_end|>"))).toBe(true);
  await expect(encode("a long answer in many words", 10)).rejects.toThrow(
    /is cut after 10, before the answer/,
  );
});

it("an inert adapter: training moves every pair, and what is served from disk is what was trained", async () => {
  const { tokens, supervised } = encoded();
  await withRunner(async ({ runner, parameters, optimizer, recipe }) => {
    const before = parameters.data.slice();
    for (let step = 0; step < 3; step++) {
      await trainStep(SUPERVISED_LOSS, runner, parameters, optimizer, [{ tokens, supervised }], {
        ...{ learningRate: 0.01, clipNorm: 1, dropoutStream: [] },
      });
    }
    for (const { layer, target, matrix, offset, length } of parameters.slots) {
      const name = `${layer} ${target} ${matrix}`;
      const [was, is] = [before, parameters.data].map((data) => data.subarray(offset, offset + length));
      expect(
        was?.some((value, i) => value !== is?.[i]),
        name,
      ).toBe(true);
      expect(
        is?.some((value) => value !== 0),
        name,
      ).toBe(true);
    }
    await saveAdapter(join(folder, "adapter"), parameters, recipe);
    const generator = new Generator({ config, weights, threads: 1 });
    try {
      const adapter = await new AdapterPool(config).get(join(folder, "adapter"));
      // The answer's first token, as training and serving see it.
      const first = supervised.indexOf(1);
      const example = { tokens: tokens.slice(0, first + 1), supervised: supervised.slice(0, first + 1) };
      const trained = (await runner.evaluate(supervisedPass([example]))).logProbabilities[0] as number;
      const served = async (with_: LoadedAdapter) => {
        const { logits } = await generator.readPrompt([...tokens.slice(0, first)], with_);
        const largest = Math.max(...logits);
        const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
        return (logits[tokens[first] as number] as number) - largest - Math.log(sum);
      };
      expect(await served(adapter)).toBeCloseTo(trained, 4);
      expect(trained - (await served(NO_ADAPTER))).toBeGreaterThan(0.1);
    } finally {
      await generator.release();
    }
  });
});
