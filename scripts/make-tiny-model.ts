// Makes a tiny random Llama model with a real byte-level BPE tokenizer, for tests: `npx tsx scripts/make-tiny-model.ts
// FOLDER`, or `makeTinyModel(folder)`. The same version of this file always makes the same bytes.
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { writeFileAtomically } from "../src/model/atomic-write.ts";
import { modelConfigFromHuggingFace } from "../src/model/huggingface-config.ts";
import { writeSafetensors, type HostTensor } from "../src/model/safetensors.ts";
import { tensorShapes } from "../src/model/tensor-shapes.ts";

const SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] as const;
const MERGE_COUNT = 96;
const SEED = 20_240_607;

/** ChatML as SmolLM2 writes it, without its default system prompt. */
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** What the merges are learned from; any English will do, short answers of support tickets suit the tests best. */
const CORPUS = `The quick brown fox jumps over the lazy dog. How can I help you today? Please write to the user and the
assistant about the order, the price, the product and the account. What is the answer to the question? There is one thing
that the system should say: yes or no. We are here to help with this and that, when and where you want it. I would like to
have a refund for the last payment, because the product did not arrive in time and the box was open. Thank you for the
message; the team will answer soon. Can you reset the password for the user in the second account? The invoice shows the
wrong total. Hello, and welcome to the shop: here are the things that other people like. Set the category to billing, the
priority to high, and the status to open. one two three four five six seven eight nine ten`;

const VOCAB_SIZE = SPECIAL_TOKENS.length + 256 + MERGE_COUNT;

const CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: VOCAB_SIZE,
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  intermediate_size: 128,
  hidden_act: "silu",
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  max_position_embeddings: 1024,
  tie_word_embeddings: true,
  attention_bias: false,
  mlp_bias: false,
  bos_token_id: 1,
  eos_token_id: 2,
  torch_dtype: "float32",
};

/** Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json into the folder, which is made if need be. */
export async function makeTinyModel(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const files: Record<string, unknown> = {
    "config.json": CONFIG,
    "generation_config.json": { bos_token_id: 1, eos_token_id: 2 },
    "tokenizer.json": tokenizerJson(),
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
      bos_token: "<|im_start|>",
      eos_token: "<|im_end|>",
      pad_token: "<|endoftext|>",
      unk_token: "<|endoftext|>",
      model_max_length: CONFIG.max_position_embeddings,
      chat_template: CHAT_TEMPLATE,
    },
  };
  for (const [name, content] of Object.entries(files))
    await writeFileAtomically(join(directory, name), [`${JSON.stringify(content, null, 2)}\n`]);
  await writeSafetensors(join(directory, "model.safetensors"), randomWeights());
}

/** Norms are 1; matrices are normal with the variance that keeps activations about as large as they came in. */
function randomWeights(): Map<string, HostTensor> {
  const normal = normalNumbers(SEED);
  const tensors = new Map<string, HostTensor>();
  for (const [name, shape] of tensorShapes(modelConfigFromHuggingFace(CONFIG))) {
    const count = shape.reduce((product, length) => product * length, 1);
    const data = new Float32Array(count);
    const deviation = 1 / Math.sqrt(CONFIG.hidden_size);
    for (let i = 0; i < count; i++) data[i] = shape.length === 1 ? 1 : deviation * normal();
    tensors.set(name, { shape, data });
  }
  return tensors;
}

/** Normal numbers by Box and Muller from the mulberry32 generator. */
function normalNumbers(seed: number): () => number {
  let state = seed;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    // Half a step up: never 0, whose logarithm is infinite.
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4_294_967_296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function tokenizerJson(): object {
  const alphabet = byteCharacters();
  const merges = learnMerges(alphabet);
  const tokens = [...SPECIAL_TOKENS, ...[...alphabet].sort(), ...merges.map((pair) => pair.join(""))];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Digits", individual_digits: true },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

/** GPT-2's printable stand-in for each byte: itself where it prints, else the next character from U+0100 on. */
function byteCharacters(): string[] {
  const prints = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(prints(byte) ? byte : next++));
}

/** Byte-pair encoding as first described (arXiv:1508.07909, algorithm 1): merge the most frequent pair, again and again. */
function learnMerges(alphabet: readonly string[]): [string, string][] {
  const words = (CORPUS.replaceAll("\n", " ").match(/ ?[A-Za-z]+/g) ?? []).map((word) =>
    [...Buffer.from(word)].map((byte) => alphabet[byte] ?? ""),
  );
  const merges: [string, string][] = [];
  while (merges.length < MERGE_COUNT) {
    const counts = new Map<string, number>();
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    // Ties by the text of the pair, so that the result does not hang on the order of counting.
    const best = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))[0];
    if (best === undefined) throw new Error("internal: the corpus is too small for so many merges");
    const [left = "", right = ""] = best[0].split(" ");
    merges.push([left, right]);
    for (const word of words)
      for (let i = 0; i + 1 < word.length; i++)
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
  }
  return merges;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const directory = process.argv[2];
  if (directory === undefined) {
    console.error("Usage: npx tsx scripts/make-tiny-model.ts FOLDER");
    process.exitCode = 2;
  } else await makeTinyModel(directory);
}
