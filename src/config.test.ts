// Settings: defaults, the environment, options in front, and the messages for what is wrong.
import { expect, test } from "vitest";
import { DEFAULT_BASE_MODEL } from "./model/catalogue.ts";
import {
  checkExposure,
  isLoopback,
  loadConfig,
  SETTINGS,
  trainerEnvironment,
  unknownVariables,
} from "./config.ts";

test("without an environment every setting has its default", () => {
  const config = loadConfig({}, { XDG_CACHE_HOME: "/cache" });
  expect(config).toMatchObject({
    host: "127.0.0.1",
    port: 8080,
    apiKeys: [],
    organization: "personal",
    maxUploadBytes: 536_870_912,
    resultFileEncoding: "base64",
    emptyJobError: "null",
    hubToken: null,
  });
  if (process.platform === "linux") expect(config.homeDirectory).toBe("/cache/tunesmith");
  expect(config.modelAliases).toMatchObject({
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o-mini-2024-07-18": "smollm2-135m-instruct",
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
  });
});

test.each(["gpt-4-0613", "gpt-3.5-turbo-1106", "gpt-3.5-turbo-0613", "babbage-002", "davinci-002"])(
  "%s, tunable at OpenAI, stands for the local base model",
  (name) => {
    const { modelAliases } = loadConfig({}, {});
    expect(modelAliases[name]).toBe(DEFAULT_BASE_MODEL);
    expect(modelAliases["gpt-4"]).toBe("gpt-4-0613");
  },
);

test("OpenAI's names stand for the catalogue's own default", () => {
  // config.ts may not import it, and the command line would have to load the catalogue for its help.
  expect(loadConfig({}, {}).modelAliases["gpt-4o-mini-2024-07-18"]).toBe(DEFAULT_BASE_MODEL);
});

test("options come before the environment, and the environment before defaults", () => {
  const environment = {
    TUNESMITH_PORT: "1",
    TUNESMITH_API_KEYS: "first-key-1, second-key-2",
    TUNESMITH_HOST: "::1",
  };
  expect(loadConfig({ port: 2 }, environment)).toMatchObject({
    port: 2,
    host: "::1",
    apiKeys: ["first-key-1", "second-key-2"],
  });
});

test("aliases are added to OpenAI's names and may replace them", () => {
  const { modelAliases } = loadConfig(
    {},
    { TUNESMITH_MODEL_ALIASES: "mine=qwen3-0.6b, gpt-4o-2024-08-06=qwen3-0.6b" },
  );
  expect(modelAliases).toMatchObject({
    mine: "qwen3-0.6b",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-2024-08-06": "qwen3-0.6b",
  });
});

test.each([
  [{ TUNESMITH_PORT: "70000" }, "TUNESMITH_PORT: expected a whole number from 0 to 65535, but got '70000'."],
  [
    { TUNESMITH_LOG_LEVEL: "loud" },
    "TUNESMITH_LOG_LEVEL: expected one of fatal, error, warn, info, debug, trace, silent, but got 'loud'.",
  ],
  [{ TUNESMITH_HUB_URL: "hub" }, "TUNESMITH_HUB_URL: expected an http or https address, but got 'hub'."],
  [
    { TUNESMITH_ORGANIZATION: "a:b" },
    "TUNESMITH_ORGANIZATION: expected 1 to 40 letters, digits, hyphens or underscores, but got 'a:b'.",
  ],
  [
    { TUNESMITH_MODEL_ALIASES: "a=b,b=a" },
    "TUNESMITH_MODEL_ALIASES: expected no alias to lead back to itself, as 'a' does, but got 'a=b,b=a'.",
  ],
  [
    { TUNESMITH_MODEL_ALIASES: "a" },
    "TUNESMITH_MODEL_ALIASES: expected name=model pairs separated by commas, none of them for an ft: name, but got 'a'.",
  ],
  [{ TUNESMITH_HOME: " " }, "TUNESMITH_HOME: expected a value, but got ' '."],
])("%j is refused", (environment, message) => {
  expect(() => loadConfig({}, environment)).toThrow(message);
});

test("all faults are named at once, and a key is never repeated", () => {
  const load = () => loadConfig({}, { TUNESMITH_PORT: "x", TUNESMITH_API_KEYS: "secret" });
  expect(load).toThrow(
    /TUNESMITH_PORT[^]*TUNESMITH_API_KEYS: expected keys of at least 8 visible ASCII characters/,
  );
  expect(load).not.toThrow(/secret/);
});

test("another address than this machine's own needs a key", () => {
  const exposed = { host: "0.0.0.0", apiKeys: [] };
  expect(() => checkExposure(exposed, false)).toThrow(
    "Listening on 0.0.0.0 would let everyone on the network use this server, and there is no API key. Listen on 127.0.0.1 and make an admin key with 'tunesmith keys create --scopes admin', or set TUNESMITH_API_KEYS to one or more keys.",
  );
  expect(() => checkExposure({ ...exposed, apiKeys: ["a-long-key-1"] }, false)).not.toThrow();
  expect(() => checkExposure(exposed, true)).not.toThrow();
  expect(() => checkExposure({ ...exposed, host: "localhost" }, false)).not.toThrow();
  expect(["127.0.0.1", "127.9.9.9", "::1", "localhost"].every(isLoopback)).toBe(true);
  expect(["0.0.0.0", "::", "192.168.0.1", "127.evil.example", ""].some(isLoopback)).toBe(false);
});

test("a trainer gets large pages on Linux, beside what is tuned already", () => {
  const largePages = "glibc.malloc.hugetlb=1";
  expect(trainerEnvironment({ A: "1" }, "linux")).toEqual({ A: "1", GLIBC_TUNABLES: largePages });
  expect(trainerEnvironment({ GLIBC_TUNABLES: "glibc.x=1" }, "linux")).toEqual({
    GLIBC_TUNABLES: `glibc.x=1:${largePages}`,
  });
  for (const [environment, platform] of [
    [{ GLIBC_TUNABLES: "glibc.malloc.hugetlb=0" }, "linux"],
    [{ A: "1" }, "darwin"],
  ] as const) {
    expect(trainerEnvironment(environment, platform)).toBe(environment);
  }
});

test("a misspelt variable is found", () => {
  expect(unknownVariables({ TUNESMITH_PROT: "1", TUNESMITH_PORT: "1", PATH: "" })).toEqual([
    "TUNESMITH_PROT",
  ]);
});

test("every setting has its own variable and a help", () => {
  const settings = Object.values(SETTINGS);
  expect(new Set(settings.map(({ variable }) => variable)).size).toBe(settings.length);
  expect(settings.every(({ help }) => help.endsWith("."))).toBe(true);
});
