// `pull`: everything of the user's that OpenAI gives out, into a folder. Object after object, each whole or not at all; what fails is noted
// with its reason and the rest goes on.
import { inAddress } from "../wire/model-names.ts";
import { messageOf } from "../errors.ts";
import { downloadFile, downloadResult } from "./download.ts";
import { withFolder } from "./folder-lock.ts";
import type { Item } from "./manifest.ts";
import { type OpenAiClient } from "./openai-client.ts";
import { isEnded, openAiObject, openAiStoredMessage, type OpenAiJob } from "./openai-objects.ts";
import { isPassingFault } from "./passing-faults.ts";
import { filesOf, PULLED_PURPOSES } from "./plan.ts";
import { preparePullFolder, PullFolder } from "./pull-folder.ts";
import { someAtATime } from "./some-at-a-time.ts";
import { surveyOpenAi, type SectionProblem } from "./survey.ts";

/** Objects fetched side by side: enough to hide the network's delay, few enough for OpenAI's limits. */
const PULLS_AT_A_TIME = 4;
/** Events of one job that are kept, the newest: a step each. */
const MAX_EVENTS = 100_000;
/** Between two reports of progress, in milliseconds: each counts all objects. */
const REPORT_INTERVAL_MS = 200;
/** Messages of one stored completion, and runs of one eval, that are kept. */
const MAX_PARTS = 10_000;

export interface PullProgress {
  /** Objects that are there or have failed, of those known so far, and bytes of files received. */
  update(done: number, total: number, bytes: number): void;
}

export interface PullSummary {
  object: "tunesmith.openai_pull_summary";
  directory: string;
  counts: Record<Item["kind"], { done: number; failed: number }>;
  bytes: number;
  failed: { kind: Item["kind"]; id: string; reason: string }[];
  problems: SectionProblem[];
}

export async function pullFromOpenAi(
  client: OpenAiClient,
  directory: string,
  options: { signal: AbortSignal; progress: PullProgress },
): Promise<PullSummary> {
  await preparePullFolder(directory);
  return withFolder(directory, async () => {
    const folder = await PullFolder.open(directory, { type: "openai", base_url: client.baseUrl });
    const pull = new Pull(client, folder, options);
    try {
      await pull.run();
    } finally {
      await folder.save();
    }
    return pull.summary();
  });
}

class Pull {
  readonly #client: OpenAiClient;
  readonly #folder: PullFolder;
  readonly #signal: AbortSignal;
  readonly #progress: PullProgress;
  #problems: SectionProblem[] = [];
  /** Bytes received of files that are on their way or here since this start. */
  readonly #received = new Map<string, number>();
  #reportedAtMs = 0;

  constructor(
    client: OpenAiClient,
    folder: PullFolder,
    { signal, progress }: { signal: AbortSignal; progress: PullProgress },
  ) {
    this.#client = client;
    this.#folder = folder;
    this.#signal = signal;
    this.#progress = progress;
  }

  async run(): Promise<void> {
    const survey = await surveyOpenAi(this.#client);
    this.#problems = survey.problems;
    const jobs = survey.jobs.map((job) => ({
      job,
      item: this.#folder.want({
        kind: "job",
        id: job.id,
        name: job.fine_tuned_model ?? null,
        final: isEnded(job.status),
      }),
    }));
    const results = new Set(survey.jobs.flatMap((job) => job.result_files ?? []));
    const listed = new Map(survey.files.map((file) => [file.id, file]));
    const wanted = new Set([
      ...survey.jobs.flatMap(filesOf),
      ...survey.files.filter(({ purpose }) => PULLED_PURPOSES.includes(purpose)).map(({ id }) => id),
    ]);
    const files = [...wanted].map((id) => {
      const file = listed.get(id);
      const isResult = results.has(id) || file?.purpose === "fine-tune-results";
      const item = { id, name: file?.filename ?? null, final: true };
      return isResult
        ? this.#folder.want({ kind: "result", ...item })
        : this.#folder.want({
            kind: "file",
            ...item,
            ...(file?.bytes === undefined ? {} : { bytes: file.bytes }),
          });
    });
    const evals = survey.evals.map((each) => ({
      each,
      item: this.#folder.want({ kind: "eval", id: each.id, name: each.name ?? null }),
    }));
    this.#folder.describe(
      survey.models.map(({ id, base, job, date }) => ({ id, base, job, stops_on: date })),
      this.#problems,
    );
    await this.#folder.save();
    await this.#each(
      jobs,
      ({ item }) => item,
      ({ job, item }) => this.#pullJob(job, item),
    );
    await this.#each(
      files,
      (item) => item,
      (item) => this.#pullFile(item),
    );
    await this.#each(
      evals,
      ({ item }) => item,
      async ({ each, item }) => {
        const runs = await this.#all(`/evals/${inAddress(each.id)}/runs`, MAX_PARTS);
        await this.#folder.write(item, {
          object: "tunesmith.pulled_eval",
          eval: each,
          runs: runs.objects,
          all_runs: runs.complete,
        });
      },
    );
    await this.#pullCompletions();
    // What an earlier pull knew of and OpenAI no longer lists.
    const left = this.#folder.items().filter(({ state }) => state === "pending");
    await this.#each(
      left,
      (item) => item,
      (item) => this.#pullUnlisted(item),
    );
  }

  /** Runs the work of every item that is not there yet, some at a time; one that fails is noted. */
  async #each<T>(
    things: readonly T[],
    itemOf: (thing: T) => Item,
    work: (thing: T) => Promise<void>,
  ): Promise<void> {
    const waiting = things.filter((thing) => itemOf(thing).state === "pending");
    await someAtATime(waiting, PULLS_AT_A_TIME, async (thing) => {
      try {
        await work(thing);
      } catch (error) {
        // The others would fail of the same.
        if (!isPassingFault(error)) throw error;
        await this.#folder.failed(itemOf(thing), messageOf(error));
      }
      this.#report();
    });
  }

  async #pullJob(job: OpenAiJob, item: Item): Promise<void> {
    const path = `/fine_tuning/jobs/${inAddress(job.id)}`;
    const events = await this.#all(`${path}/events`, MAX_EVENTS);
    const checkpoints = await this.#all(`${path}/checkpoints`, MAX_PARTS);
    await this.#folder.write(item, {
      object: "tunesmith.pulled_job",
      job,
      // Oldest first, as they happened; OpenAI lists the newest first.
      events: events.objects.reverse(),
      all_events: events.complete,
      checkpoints: checkpoints.objects,
    });
  }

  async #pullFile(item: Item): Promise<void> {
    const target = this.#folder.place(item);
    if (item.kind === "result")
      return this.#folder.done(item, await downloadResult(this.#client, item.id, target));
    const onBytes = (bytes: number): void => {
      this.#received.set(item.id, bytes);
      this.#report();
    };
    const content = await downloadFile(this.#client, item.id, target, {
      expectedBytes: item.bytes,
      signal: this.#signal,
      onBytes,
    });
    await this.#folder.done(item, content);
  }

  /** Page by page, because there may be very many. */
  async #pullCompletions(): Promise<void> {
    let page: { completion: { id: string }; item: Item }[] = [];
    const pullPage = async (): Promise<void> => {
      await this.#each(
        page,
        ({ item }) => item,
        ({ completion, item }) => this.#pullCompletion(completion, item),
      );
      page = [];
    };
    try {
      const list = this.#client.list("/chat/completions", openAiObject, { limit: 100 });
      for await (const completion of list) {
        const item = this.#folder.want({ kind: "completion", id: completion.id });
        page.push({ completion, item });
        if (page.length === 100) await pullPage();
      }
    } catch (error) {
      if (!isPassingFault(error)) throw error;
      this.#problems.push({ section: "stored completions", message: messageOf(error) });
    }
    await pullPage();
  }

  async #pullCompletion(completion: { id: string }, item: Item): Promise<void> {
    const messages: unknown[] = [];
    const path = `/chat/completions/${inAddress(completion.id)}/messages`;
    for await (const message of this.#client.list(path, openAiStoredMessage, { limit: 100 })) {
      if (messages.length === MAX_PARTS) break;
      messages.push(message);
    }
    await this.#folder.write(item, { object: "tunesmith.pulled_completion", completion, messages });
  }

  /** Asked for by its id: OpenAI says why it cannot be had, or has it after all. */
  async #pullUnlisted(item: Item): Promise<void> {
    const id = inAddress(item.id);
    switch (item.kind) {
      case "file":
      case "result":
        return this.#pullFile(item);
      case "completion":
        return this.#pullCompletion(
          openAiObject.parse(await this.#client.get(`/chat/completions/${id}`)),
          item,
        );
      case "job":
      case "eval":
        // Their lists are complete, so one that is not in them is gone.
        return this.#folder.failed(item, `OpenAI no longer lists the ${item.kind}.`);
    }
  }

  async #all(path: string, most: number): Promise<{ objects: unknown[]; complete: boolean }> {
    const objects: unknown[] = [];
    for await (const object of this.#client.list(path, openAiObject, { limit: 100 })) {
      if (objects.length === most) return { objects, complete: false };
      objects.push(object);
    }
    return { objects, complete: true };
  }

  #report(): void {
    if (Date.now() - this.#reportedAtMs < REPORT_INTERVAL_MS) return;
    this.#reportedAtMs = Date.now();
    const items = this.#folder.items();
    const open = items.filter(({ state }) => state === "pending").length;
    const bytes = [...this.#received.values()].reduce((sum, each) => sum + each, 0);
    this.#progress.update(items.length - open, items.length, bytes);
  }

  summary(): PullSummary {
    return summaryOf(this.#folder, this.#problems);
  }
}

export function summaryOf(folder: PullFolder, problems: SectionProblem[]): PullSummary {
  const items = folder.items();
  const counts = (kind: Item["kind"]) => ({
    done: folder.count(kind, "done"),
    failed: folder.count(kind, "failed"),
  });
  return {
    object: "tunesmith.openai_pull_summary",
    directory: folder.directory,
    counts: {
      job: counts("job"),
      file: counts("file"),
      result: counts("result"),
      eval: counts("eval"),
      completion: counts("completion"),
    },
    bytes: items.reduce((sum, { state, bytes }) => sum + (state === "done" ? (bytes ?? 0) : 0), 0),
    failed: items
      .filter(({ state }) => state === "failed")
      .map(({ kind, id, reason }) => ({ kind, id, reason: reason ?? "" })),
    problems,
  };
}
