// Every operation that asks no model, as the load of bench/api.ts sends it.
import type { BuiltHome } from "./api-home.ts";
import type { Call, Connections } from "./api-load.ts";

export interface Operation {
  name: string;
  writes: boolean;
  /** Not measured: makes what `run` needs. */
  prepare?: (index: number) => Promise<void>;
  run: (index: number) => Promise<void>;
  /** Not measured: ends what `run` made, where much of it would be refused or worked on. */
  after?: () => Promise<void>;
}

const BOUNDARY = "----tunesmith-bench";
const LINE = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}\n';
const UPLOAD = { filename: "a.jsonl", purpose: "fine-tune", bytes: LINE.length, mime_type: "text/jsonl" };

/** A form with one file. */
export function formOf(
  member: string,
  content: Buffer,
  fields: Record<string, string> = {},
): { contentType: string; body: Buffer } {
  const members = Object.entries(fields).map(
    ([name, value]) => `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  const head = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${member}"; filename="a.jsonl"\r\nContent-Type: application/octet-stream\r\n\r\n`;
  const body = Buffer.concat([
    Buffer.from(members.join("") + head),
    content,
    Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  ]);
  return { contentType: `multipart/form-data; boundary=${BOUNDARY}`, body };
}

export function operationsOn(connections: Connections, home: BuiltHome): Operation[] {
  const send = async (call: Call) => JSON.parse((await connections.send(call)).body) as { id: string };
  const post = (path: string, body?: object) =>
    send({
      method: "POST",
      path,
      ...(body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) }),
    });
  const postForm = (path: string, member: string, fields?: Record<string, string>) =>
    send({ method: "POST", path, ...formOf(member, Buffer.from(LINE), fields) });
  const read = (name: string, path: (index: number) => string): Operation => ({
    name,
    writes: false,
    run: async (index) => void (await send({ method: "GET", path: path(index) })),
  });
  /** Spread over all of them, so that no page of the database is asked for twice in a row. */
  const some = (ids: readonly string[], index: number) => ids[(index * 7919) % ids.length] ?? "";
  const upload = () => post("/v1/uploads", UPLOAD);
  const createJob = (index: number) =>
    post("/v1/fine_tuning/jobs", {
      model: "smollm2-135m-instruct",
      training_file: some(home.files, index * 100 + 1),
    });

  const files = "/v1/files";
  const jobs = "/v1/fine_tuning/jobs";
  const events = `${jobs}/${home.longJob}/events`;
  // Work that has begun and is taken up by another request: made and used in the order of arrival.
  const made: Record<"uploads" | "files" | "jobs", string[]> = { uploads: [], files: [], jobs: [] };
  const take = (kind: keyof typeof made) => made[kind].pop() ?? "";
  const cancelJob = async () => {
    const id = take("jobs");
    if (id !== "") await post(`${jobs}/${id}/cancel`);
  };
  const cancelUpload = async () => void (await post(`/v1/uploads/${take("uploads")}/cancel`));
  return [
    read("files list, 20", () => `${files}?limit=20`),
    read("files list, deep", (index) => `${files}?limit=20&after=${some(home.files, index)}`),
    read("files list, rare purpose", () => `${files}?limit=20&purpose=batch`),
    read("files list, purpose without files", () => `${files}?limit=20&purpose=vision`),
    read("files retrieve", (index) => `${files}/${some(home.files, index)}`),
    {
      name: "files content",
      writes: false,
      run: async (index) =>
        void (await connections.send({ method: "GET", path: `${files}/${some(home.files, index)}/content` })),
    },
    read("jobs list", () => jobs),
    read("jobs list, deep", (index) => `${jobs}?after=${some(home.jobs, index)}`),
    read("jobs list, rare metadata", () => `${jobs}?metadata[team]=rare`),
    read("jobs list, metadata of no job", () => `${jobs}?metadata[team]=nobody`),
    read("jobs retrieve", (index) => `${jobs}/${some(home.jobs, index)}`),
    read("events list", () => events),
    read("events list, deep", (index) => `${events}?limit=100&after=${some(home.longJobEvents, index)}`),
    read("checkpoints list", (index) => `${jobs}/${some(home.jobs, index)}/checkpoints`),
    read("models list", () => "/v1/models"),
    read("models retrieve", (index) => `/v1/models/${encodeURIComponent(some(home.models, index))}`),
    read("batches list", () => "/v1/batches"),
    read("batches retrieve", (index) => `/v1/batches/${some(home.batches, index)}`),
    {
      name: "files create",
      writes: true,
      run: async () => void (await postForm(files, "file", { purpose: "fine-tune" })),
    },
    {
      name: "files delete",
      writes: true,
      prepare: async () => void made.files.push((await postForm(files, "file", { purpose: "evals" })).id),
      run: async () => void (await send({ method: "DELETE", path: `${files}/${take("files")}` })),
    },
    {
      name: "jobs create",
      writes: true,
      run: async (index) => void made.jobs.push((await createJob(index)).id),
      after: cancelJob,
    },
    {
      name: "jobs cancel",
      writes: true,
      prepare: async (index) => void made.jobs.push((await createJob(index)).id),
      run: cancelJob,
    },
    {
      name: "uploads create",
      writes: true,
      run: async () => void made.uploads.push((await upload()).id),
      after: cancelUpload,
    },
    {
      name: "uploads cancel",
      writes: true,
      prepare: async () => void made.uploads.push((await upload()).id),
      run: cancelUpload,
    },
    uploadPart(upload, postForm, post),
    uploadComplete(upload, postForm, post),
  ];
}

type Upload = () => Promise<{ id: string }>;
type PostForm = (path: string, member: string) => Promise<{ id: string }>;
type Post = (path: string, body?: object) => Promise<{ id: string }>;

function uploadPart(upload: Upload, postForm: PostForm, post: Post): Operation {
  const begun: string[] = [];
  const ended: string[] = [];
  return {
    name: "uploads part",
    writes: true,
    prepare: async () => void begun.push((await upload()).id),
    run: async () => {
      const id = begun.pop() ?? "";
      await postForm(`/v1/uploads/${id}/parts`, "data");
      ended.push(id);
    },
    after: async () => void (await post(`/v1/uploads/${ended.pop()}/cancel`)),
  };
}

function uploadComplete(upload: Upload, postForm: PostForm, post: Post): Operation {
  const ready: { id: string; part: string }[] = [];
  return {
    name: "uploads complete",
    writes: true,
    prepare: async () => {
      const { id } = await upload();
      ready.push({ id, part: (await postForm(`/v1/uploads/${id}/parts`, "data")).id });
    },
    run: async () => {
      const { id = "", part } = ready.pop() ?? {};
      await post(`/v1/uploads/${id}/complete`, { part_ids: [part] });
    },
  };
}
