// What llama.cpp writes after prompts, greedily: `npx tsx scripts/llama-greedy.ts < REQUEST`, where REQUEST is JSON: a list of
// {"model": path of a GGUF file, "lora"?: path of an adapter, "prompts": [[id]], "count": tokens}. Prints JSON: for each of them
// {"answers": [[id]], "template": the template of its metadata, "end": the ids of its end tokens}. test/export/llama-cpp.test.ts runs it
// with what scripts/llama-env.sh has installed.
import { text } from "node:stream/consumers";

/** As much of node-llama-cpp as is used here; it is installed in a folder of its own, or not at all. */
interface LlamaPackage {
  LlamaLogLevel: { error: string };
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>;
}
interface LlamaModel {
  tokens: { eos: number | null; eot: number | null };
  fileInfo: { metadata: { tokenizer: { chat_template?: string } } };
  isEogToken(token: number): boolean;
  createContext(options: object): Promise<{
    getSequence(): {
      clearHistory(): Promise<void>;
      evaluate(tokens: readonly number[], options: object): AsyncGenerator<number>;
    };
    dispose(): Promise<void>;
  }>;
  dispose(): Promise<void>;
}

const PACKAGE = "../.llama-cpp/node_modules/node-llama-cpp/dist/index.js";
const nodeLlama = (await import(PACKAGE)) as LlamaPackage;
const llama = await nodeLlama.getLlama({
  gpu: false,
  build: "never",
  logLevel: nodeLlama.LlamaLogLevel.error,
});

const requests = JSON.parse(await text(process.stdin)) as {
  model: string;
  lora?: string;
  prompts: number[][];
  count: number;
}[];
const results: object[] = [];
for (const { model: modelPath, lora, prompts, count } of requests) {
  const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: 512,
    threads: 1,
    ...(lora === undefined ? {} : { lora: { adapters: [{ filePath: lora, scale: 1 }] } }),
  });
  const answers: number[][] = [];
  const sequence = context.getSequence();
  for (const prompt of prompts) {
    await sequence.clearHistory();
    const answer: number[] = [];
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      answer.push(Number(token));
      if (answer.length === count || model.isEogToken(token)) break;
    }
    answers.push(answer);
  }
  const { tokenizer } = model.fileInfo.metadata;
  results.push({
    answers,
    template: tokenizer.chat_template ?? null,
    end: [model.tokens.eos, model.tokens.eot].map(Number),
  });
  await context.dispose();
  await model.dispose();
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
