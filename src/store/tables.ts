// The database's tables as Kysely sees them. The numbered migrations that made them are in migrations.ts, and queries live in the file of
// their table. Times are Unix seconds in columns that clients see, milliseconds where the name says so.
import type { ColumnType, Generated } from "kysely";

export interface Tables {
  files: FilesTable;
  fineTuningJobs: FineTuningJobsTable;
  fineTuningJobMetadata: FineTuningJobMetadataTable;
  fineTuningEvents: FineTuningEventsTable;
  fineTuningCheckpoints: FineTuningCheckpointsTable;
  fineTuningTurns: FineTuningTurnsTable;
  models: ModelsTable;
  batches: BatchesTable;
  webhooks: WebhooksTable;
  webhookDeliveries: WebhookDeliveriesTable;
  projects: ProjectsTable;
  apiKeys: ApiKeysTable;
  checkpointPermissions: CheckpointPermissionsTable;
  idempotencyKeys: IdempotencyKeysTable;
  chatCompletions: ChatCompletionsTable;
  chatCompletionMetadata: ChatCompletionMetadataTable;
  responses: ResponsesTable;
  uploads: UploadsTable;
  uploadParts: UploadPartsTable;
  responseItems: ResponseItemsTable;
  aliases: AliasesTable;
  aliasMoves: AliasMovesTable;
  aliasComparisons: AliasComparisonsTable;
  modelExports: ModelExportsTable;
}

/** Order of creation: grows by one a row and is never used twice, so lists have a stable order within one second. */
type Sequence = Generated<number>;
/** Written once, by insert. */
type Fixed<T> = ColumnType<T, T, never>;

export interface FilesTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  expiresAt: Fixed<number | null>;
  bytes: Fixed<number>;
  filename: Fixed<string>;
  purpose: Fixed<string>;
  sha256: Fixed<string>;
  /** A deleted file keeps its row: a page may go on after it. */
  deletedAt: number | null;
}

export interface FineTuningJobsTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  finishedAt: number | null;
  status: string;
  model: Fixed<string>;
  baseModel: Fixed<string>;
  trainingFile: Fixed<string>;
  validationFile: Fixed<string | null>;
  suffix: Fixed<string | null>;
  seed: Fixed<number>;
  method: Fixed<string>;
  hyperparameters: string;
  metadata: Fixed<string | null>;
  recipe: string | null;
  trainedTokens: number | null;
  fineTunedModel: string | null;
  resultFile: string | null;
  estimatedFinish: number | null;
  error: string | null;
  leaseOwner: string | null;
  leaseExpiresAtMs: number | null;
  attempts: number;
  /** 1 once an ended job's directory holds only what stays. */
  cleanedUp: Generated<number>;
  /** Free bytes at which a job that was paused on a full disk goes on by itself; kept while it works, for the next time. */
  waitsForBytes: number | null;
}

/** The pairs of `metadata`. */
export interface FineTuningJobMetadataTable {
  projectId: Fixed<string>;
  key: Fixed<string>;
  value: Fixed<string>;
  /** Of the job. */
  sequence: Fixed<number>;
}

export interface FineTuningEventsTable {
  sequence: Sequence;
  id: Fixed<string>;
  jobId: Fixed<string>;
  eventKey: Fixed<string | null>;
  createdAt: Fixed<number>;
  level: Fixed<string>;
  type: Fixed<string>;
  message: Fixed<string>;
  data: Fixed<string>;
}

export interface FineTuningCheckpointsTable {
  sequence: Sequence;
  id: Fixed<string>;
  jobId: Fixed<string>;
  createdAt: Fixed<number>;
  step: Fixed<number>;
  model: Fixed<string>;
  metrics: Fixed<string>;
  /** 1 for the one with the lowest full validation loss. */
  best: Fixed<number>;
}

/** When each project last got its turn: of several that wait, the one with the smallest number is next. */
export interface FineTuningTurnsTable {
  projectId: string;
  turn: number;
}

export interface ModelsTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  /** Null for a model that was imported. */
  jobId: Fixed<string | null>;
  createdAt: Fixed<number>;
  ownedBy: Fixed<string>;
  baseModel: Fixed<string>;
  requestedModel: Fixed<string>;
  adapterDirectory: Fixed<string>;
  deletedAt: number | null;
}

export interface BatchesTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  endpoint: Fixed<string>;
  inputFile: Fixed<string>;
  keyId: Fixed<string | null>;
  outputTtlSeconds: Fixed<number>;
  metadata: Fixed<string | null>;
  status: string;
  model: string | null;
  errors: string | null;
  outputFile: string | null;
  errorFile: string | null;
  inProgressAt: number | null;
  expiresAt: Fixed<number>;
  finalizingAt: number | null;
  completedAt: number | null;
  failedAt: number | null;
  expiredAt: number | null;
  cancellingAt: number | null;
  cancelledAt: number | null;
  requestCounts: string;
  usage: string;
  leaseOwner: string | null;
  leaseExpiresAtMs: number | null;
  attempts: number;
}

export interface WebhooksTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  url: string;
  eventTypes: Fixed<string>;
  secret: Fixed<string>;
}

export interface WebhookDeliveriesTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  webhookId: Fixed<string>;
  createdAt: Fixed<number>;
  body: Fixed<string>;
  attempts: number;
  nextAttemptAtMs: number;
}

export interface ProjectsTable {
  sequence: Sequence;
  id: Fixed<string>;
  createdAt: Fixed<number>;
  name: Fixed<string>;
}

export interface ApiKeysTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  name: Fixed<string | null>;
  secretSha256: Fixed<string>;
  secretPrefix: Fixed<string>;
  scopes: Fixed<string>;
  requestsPerMinute: Fixed<number | null>;
  tokensPerMinute: Fixed<number | null>;
  lastUsedAt: number | null;
  revokedAt: number | null;
}

export interface CheckpointPermissionsTable {
  sequence: Sequence;
  id: Fixed<string>;
  model: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
}

export interface IdempotencyKeysTable {
  projectId: Fixed<string>;
  key: Fixed<string>;
  fingerprint: Fixed<string>;
  owner: string;
  createdAt: Fixed<number>;
  status: number | null;
  body: string | null;
}

export interface UploadsTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  expiresAt: Fixed<number>;
  bytes: Fixed<number>;
  filename: Fixed<string>;
  purpose: Fixed<string>;
  fileTtlSeconds: Fixed<number | null>;
  status: string;
  fileId: string | null;
}

/** Gone when their upload has ended. */
export interface UploadPartsTable {
  sequence: Sequence;
  id: Fixed<string>;
  uploadId: Fixed<string>;
  createdAt: Fixed<number>;
  bytes: Fixed<number>;
}

export interface ChatCompletionsTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  /** A deleted completion keeps its row, without text, until the sweep: a page may go on after it. */
  deletedAt: number | null;
  model: Fixed<string>;
  metadata: string;
  /** Length of `completion`. */
  bytes: number;
  completion: string;
  messages: string;
}

export interface ChatCompletionMetadataTable {
  projectId: Fixed<string>;
  key: Fixed<string>;
  value: Fixed<string>;
  sequence: Fixed<number>;
}

export interface ResponsesTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  createdAt: Fixed<number>;
  status: string;
  response: string;
  input: Fixed<string>;
}

export interface ResponseItemsTable {
  projectId: Fixed<string>;
  id: Fixed<string>;
  /** Sequence of the response whose answer holds the item. */
  response: Fixed<number>;
}

export interface AliasesTable {
  projectId: Fixed<string>;
  name: Fixed<string>;
  createdAt: Fixed<number>;
  movedAt: number;
  model: string;
  /** Sequence of the move that a rollback undoes. */
  lastMove: number | null;
  candidate: string | null;
  candidateMode: string | null;
  candidatePercent: number | null;
  candidateAt: number | null;
  compared: number;
  equal: number;
  similaritySum: number;
}

/** The log of aliases, deleted ones included. */
export interface AliasMovesTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  name: Fixed<string>;
  createdAt: Fixed<number>;
  action: Fixed<string>;
  fromModel: Fixed<string | null>;
  toModel: Fixed<string | null>;
  mode: Fixed<string | null>;
  percent: Fixed<number | null>;
  /** What `lastMove` of the alias was before. */
  before: Fixed<number | null>;
  madeBy: Fixed<string>;
  reason: Fixed<string | null>;
}

export interface AliasComparisonsTable {
  sequence: Sequence;
  id: Fixed<string>;
  projectId: Fixed<string>;
  name: Fixed<string>;
  createdAt: Fixed<number>;
  requestId: Fixed<string>;
  model: Fixed<string>;
  candidate: Fixed<string>;
  equal: Fixed<number>;
  similarity: Fixed<number>;
  question: Fixed<string>;
  answer: Fixed<string>;
  candidateAnswer: Fixed<string>;
  completionTokens: Fixed<number>;
  candidateCompletionTokens: Fixed<number>;
}

export interface ModelExportsTable {
  sequence: Sequence;
  model: Fixed<string>;
  createdAt: Fixed<number>;
  format: Fixed<string>;
  precision: Fixed<string | null>;
  madeBy: Fixed<string>;
}
