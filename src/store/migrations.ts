// The database's history: migration N brings a database from schema version N to N + 1. A released migration never changes;
// a new need is a new entry at the end. Booleans are 0 and 1.
import { DEFAULT_PROJECT } from "../wire/ids.ts";

/** Each migration is a list of SQL statements. */
export const MIGRATIONS: readonly (readonly string[])[] = [
  [
    `CREATE TABLE files (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      created_at INTEGER NOT NULL,
      expires_at INTEGER,
      bytes INTEGER NOT NULL,
      filename TEXT NOT NULL,
      purpose TEXT NOT NULL,
      sha256 TEXT NOT NULL,
      deleted_at INTEGER
    ) STRICT`,
    `CREATE TABLE fine_tuning_jobs (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      created_at INTEGER NOT NULL,
      finished_at INTEGER,
      status TEXT NOT NULL,
      model TEXT NOT NULL,
      base_model TEXT NOT NULL,
      training_file TEXT NOT NULL REFERENCES files (id),
      validation_file TEXT REFERENCES files (id),
      suffix TEXT,
      seed INTEGER NOT NULL,
      hyperparameters TEXT NOT NULL,
      metadata TEXT,
      recipe TEXT,
      trained_tokens INTEGER,
      fine_tuned_model TEXT,
      result_file TEXT REFERENCES files (id),
      estimated_finish INTEGER,
      error TEXT,
      lease_owner TEXT,
      lease_expires_at_ms INTEGER,
      attempts INTEGER NOT NULL DEFAULT 0
    ) STRICT`,
    // What a worker looks for, every second: the oldest unfinished job.
    `CREATE INDEX fine_tuning_jobs_unfinished ON fine_tuning_jobs (sequence)
      WHERE status IN ('validating_files', 'queued', 'running')`,
    `CREATE TABLE fine_tuning_events (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      job_id TEXT NOT NULL REFERENCES fine_tuning_jobs (id),
      event_key TEXT,
      created_at INTEGER NOT NULL,
      level TEXT NOT NULL,
      type TEXT NOT NULL,
      message TEXT NOT NULL,
      data TEXT NOT NULL,
      UNIQUE (job_id, event_key)
    ) STRICT`,
    `CREATE INDEX fine_tuning_events_by_job ON fine_tuning_events (job_id, sequence)`,
    `CREATE TABLE fine_tuning_checkpoints (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      job_id TEXT NOT NULL REFERENCES fine_tuning_jobs (id),
      created_at INTEGER NOT NULL,
      step INTEGER NOT NULL,
      model TEXT NOT NULL,
      metrics TEXT NOT NULL,
      UNIQUE (job_id, step)
    ) STRICT`,
    `CREATE TABLE models (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      job_id TEXT NOT NULL REFERENCES fine_tuning_jobs (id),
      created_at INTEGER NOT NULL,
      owned_by TEXT NOT NULL,
      base_model TEXT NOT NULL,
      requested_model TEXT NOT NULL,
      adapter_directory TEXT NOT NULL,
      deleted_at INTEGER
    ) STRICT`,
  ],
  [
    // An ended job's directory is cleaned up after its status is written: a crash between the two leaves 0 here.
    `ALTER TABLE fine_tuning_jobs ADD COLUMN cleaned_up INTEGER NOT NULL DEFAULT 0`,
    `CREATE INDEX fine_tuning_jobs_to_clean_up ON fine_tuning_jobs (sequence)
      WHERE cleaned_up = 0 AND status IN ('succeeded', 'failed', 'cancelled')`,
  ],
  [
    `CREATE TABLE batches (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      endpoint TEXT NOT NULL,
      input_file TEXT NOT NULL REFERENCES files (id),
      output_ttl_seconds INTEGER NOT NULL,
      metadata TEXT,
      status TEXT NOT NULL,
      model TEXT,
      errors TEXT,
      output_file TEXT REFERENCES files (id),
      error_file TEXT REFERENCES files (id),
      in_progress_at INTEGER,
      expires_at INTEGER NOT NULL,
      finalizing_at INTEGER,
      completed_at INTEGER,
      failed_at INTEGER,
      expired_at INTEGER,
      cancelling_at INTEGER,
      cancelled_at INTEGER,
      request_counts TEXT NOT NULL,
      usage TEXT NOT NULL,
      lease_owner TEXT,
      lease_expires_at_ms INTEGER,
      attempts INTEGER NOT NULL DEFAULT 0
    ) STRICT`,
    `CREATE INDEX batches_by_project ON batches (project_id, sequence)`,
    // What workers look for, every second.
    `CREATE INDEX batches_unfinished ON batches (sequence)
      WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')`,
  ],
  [
    `CREATE TABLE webhooks (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      url TEXT NOT NULL,
      event_types TEXT NOT NULL,
      secret TEXT NOT NULL
    ) STRICT`,
    `CREATE INDEX webhooks_by_project ON webhooks (project_id, sequence)`,
    `CREATE TABLE webhook_deliveries (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      webhook_id TEXT NOT NULL REFERENCES webhooks (id),
      created_at INTEGER NOT NULL,
      body TEXT NOT NULL,
      attempts INTEGER NOT NULL,
      next_attempt_at_ms INTEGER NOT NULL
    ) STRICT`,
    `CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at_ms)`,
    `CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id)`,
  ],
  // Every object belongs to a project; those that were there before projects were, to the default one. The defaults stand
  // only because SQLite demands them of a new column: every insert names its project.
  [
    ...["files", "fine_tuning_jobs", "models"].flatMap((table) => [
      `ALTER TABLE ${table} ADD COLUMN project_id TEXT NOT NULL DEFAULT '${DEFAULT_PROJECT}'`,
      // What every list asks for: one project's rows in the order of creation.
      `CREATE INDEX ${table}_by_project ON ${table} (project_id, sequence)`,
    ]),
  ],
  [
    `CREATE TABLE projects (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      created_at INTEGER NOT NULL,
      name TEXT NOT NULL
    ) STRICT`,
    `INSERT INTO projects (id, created_at, name) VALUES ('${DEFAULT_PROJECT}', unixepoch(), 'Default project')`,
    `CREATE TABLE api_keys (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL REFERENCES projects (id),
      created_at INTEGER NOT NULL,
      name TEXT,
      secret_sha256 TEXT NOT NULL UNIQUE,
      secret_prefix TEXT NOT NULL,
      scopes TEXT NOT NULL,
      requests_per_minute INTEGER,
      tokens_per_minute INTEGER,
      last_used_at INTEGER,
      revoked_at INTEGER
    ) STRICT`,
  ],
  [
    // project_id is the project that may use the model beside its own.
    `CREATE TABLE checkpoint_permissions (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      model TEXT NOT NULL REFERENCES models (id),
      project_id TEXT NOT NULL REFERENCES projects (id),
      created_at INTEGER NOT NULL,
      UNIQUE (model, project_id)
    ) STRICT`,
    `CREATE INDEX checkpoint_permissions_by_project ON checkpoint_permissions (project_id, model)`,
  ],
  [
    // status and body are null until the answer is known; owner is the process that works on it.
    `CREATE TABLE idempotency_keys (
      project_id TEXT NOT NULL,
      key TEXT NOT NULL,
      fingerprint TEXT NOT NULL,
      owner TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      status INTEGER,
      body TEXT,
      PRIMARY KEY (project_id, key)
    ) STRICT`,
    `CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)`,
  ],
  [
    `CREATE TABLE uploads (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      expires_at INTEGER NOT NULL,
      bytes INTEGER NOT NULL,
      filename TEXT NOT NULL,
      purpose TEXT NOT NULL,
      file_ttl_seconds INTEGER,
      status TEXT NOT NULL,
      file_id TEXT REFERENCES files (id)
    ) STRICT`,
    `CREATE INDEX uploads_pending ON uploads (project_id, expires_at) WHERE status = 'pending'`,
    // A row for each part whose bytes are kept: it goes when the upload ends.
    `CREATE TABLE upload_parts (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      upload_id TEXT NOT NULL REFERENCES uploads (id),
      created_at INTEGER NOT NULL,
      bytes INTEGER NOT NULL
    ) STRICT`,
    `CREATE INDEX upload_parts_by_upload ON upload_parts (upload_id, bytes)`,
  ],
  [
    // A deleted completion keeps its id, and no text, until the sweep: a page may go on after it.
    `CREATE TABLE chat_completions (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      deleted_at INTEGER,
      model TEXT NOT NULL,
      metadata TEXT NOT NULL,
      bytes INTEGER NOT NULL,
      completion TEXT NOT NULL,
      messages TEXT NOT NULL
    ) STRICT`,
    `CREATE INDEX chat_completions_by_project ON chat_completions (project_id, sequence)`,
    `CREATE INDEX chat_completions_by_model ON chat_completions (project_id, model, sequence)`,
    `CREATE INDEX chat_completions_by_age ON chat_completions (created_at)`,
    // The pairs of metadata once more, for lists that ask for them.
    `CREATE TABLE chat_completion_metadata (
      project_id TEXT NOT NULL,
      key TEXT NOT NULL,
      value TEXT NOT NULL,
      sequence INTEGER NOT NULL REFERENCES chat_completions (sequence) ON DELETE CASCADE,
      PRIMARY KEY (project_id, key, value, sequence)
    ) STRICT, WITHOUT ROWID`,
    `CREATE INDEX chat_completion_metadata_by_completion ON chat_completion_metadata (sequence)`,
  ],
  // Lists that would otherwise walk past thousands of rows: files of a rare purpose, living models among deleted ones, jobs by
  // their metadata, which the third index holds so that no row is read before it matches.
  [
    `CREATE INDEX files_by_purpose ON files (project_id, purpose, sequence) WHERE deleted_at IS NULL`,
    `CREATE INDEX models_living ON models (project_id, sequence) WHERE deleted_at IS NULL`,
    `CREATE INDEX fine_tuning_jobs_with_metadata ON fine_tuning_jobs (project_id, sequence, metadata)
      WHERE metadata IS NOT NULL`,
    `CREATE INDEX fine_tuning_jobs_without_metadata ON fine_tuning_jobs (project_id, sequence) WHERE metadata IS NULL`,
  ],
  [
    // response and input are JSON: the object as clients see it, and the conversation it answers.
    `CREATE TABLE responses (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      status TEXT NOT NULL,
      response TEXT NOT NULL,
      input TEXT NOT NULL
    ) STRICT`,
    `CREATE INDEX responses_by_age ON responses (created_at)`,
    // Where the items of answers are found that a request refers to.
    `CREATE TABLE response_items (
      project_id TEXT NOT NULL,
      id TEXT NOT NULL,
      response INTEGER NOT NULL REFERENCES responses (sequence) ON DELETE CASCADE,
      PRIMARY KEY (project_id, id)
    ) STRICT, WITHOUT ROWID`,
    `CREATE INDEX response_items_by_response ON response_items (response)`,
    // What a start looks for: responses that the last process did not end.
    `CREATE INDEX responses_unfinished ON responses (status) WHERE status IN ('queued', 'in_progress')`,
  ],
  // Jobs were all supervised before there was another method; every insert names its own.
  [`ALTER TABLE fine_tuning_jobs ADD COLUMN method TEXT NOT NULL DEFAULT 'supervised'`],
  // The key that made a batch, whose limits its lines keep to.
  [`ALTER TABLE batches ADD COLUMN key_id TEXT`],
  // Which checkpoint of a job has the lowest full validation loss.
  [`ALTER TABLE fine_tuning_checkpoints ADD COLUMN best INTEGER NOT NULL DEFAULT 0`],
  // Whose turn it is when several projects have jobs, and what a job that waits for room on the disk needs.
  [
    `CREATE TABLE fine_tuning_turns (project_id TEXT PRIMARY KEY, turn INTEGER NOT NULL) STRICT, WITHOUT ROWID`,
    `ALTER TABLE fine_tuning_jobs ADD COLUMN waits_for_bytes INTEGER`,
    `CREATE INDEX fine_tuning_jobs_waiting ON fine_tuning_jobs (sequence)
      WHERE status = 'paused' AND waits_for_bytes IS NOT NULL`,
  ],
  // The pairs of a job's metadata once more, so that a list which asks for some looks at the jobs that have them, not at all.
  [
    `CREATE TABLE fine_tuning_job_metadata (
      project_id TEXT NOT NULL,
      key TEXT NOT NULL,
      value TEXT NOT NULL,
      sequence INTEGER NOT NULL REFERENCES fine_tuning_jobs (sequence),
      PRIMARY KEY (project_id, key, value, sequence)
    ) STRICT, WITHOUT ROWID`,
    `INSERT OR IGNORE INTO fine_tuning_job_metadata (project_id, key, value, sequence)
      SELECT project_id, pair.key, pair.value, sequence FROM fine_tuning_jobs, json_each(metadata) AS pair
      WHERE metadata IS NOT NULL`,
    `DROP INDEX fine_tuning_jobs_with_metadata`,
  ],
  // Names that lead to a model version, the log of where they led, and what shadows answered.
  [
    `CREATE TABLE aliases (
      project_id TEXT NOT NULL,
      name TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      moved_at INTEGER NOT NULL,
      model TEXT NOT NULL,
      last_move INTEGER,
      candidate TEXT,
      candidate_mode TEXT,
      candidate_percent REAL,
      candidate_at INTEGER,
      compared INTEGER NOT NULL,
      equal INTEGER NOT NULL,
      similarity_sum REAL NOT NULL,
      PRIMARY KEY (project_id, name)
    ) STRICT, WITHOUT ROWID`,
    `CREATE INDEX aliases_by_model ON aliases (model)`,
    `CREATE INDEX aliases_by_candidate ON aliases (candidate) WHERE candidate IS NOT NULL`,
    `CREATE TABLE alias_moves (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      name TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      action TEXT NOT NULL,
      from_model TEXT,
      to_model TEXT,
      mode TEXT,
      percent REAL,
      before INTEGER,
      made_by TEXT NOT NULL,
      reason TEXT
    ) STRICT`,
    `CREATE INDEX alias_moves_by_alias ON alias_moves (project_id, name, sequence)`,
    `CREATE TABLE alias_comparisons (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      name TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      request_id TEXT NOT NULL,
      model TEXT NOT NULL,
      candidate TEXT NOT NULL,
      equal INTEGER NOT NULL,
      similarity REAL NOT NULL,
      question TEXT NOT NULL,
      answer TEXT NOT NULL,
      candidate_answer TEXT NOT NULL,
      completion_tokens INTEGER NOT NULL,
      candidate_completion_tokens INTEGER NOT NULL
    ) STRICT`,
    `CREATE INDEX alias_comparisons_by_alias ON alias_comparisons (project_id, name, sequence)`,
  ],
  // A model that was imported has no job. SQLite cannot take a NOT NULL back, so the table is made again; permissions, which refer to
  // it, find its rows again before the transaction ends.
  [
    `PRAGMA defer_foreign_keys = ON`,
    `CREATE TABLE models_before AS SELECT * FROM models`,
    `DROP TABLE models`,
    `CREATE TABLE models (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      project_id TEXT NOT NULL,
      job_id TEXT REFERENCES fine_tuning_jobs (id),
      created_at INTEGER NOT NULL,
      owned_by TEXT NOT NULL,
      base_model TEXT NOT NULL,
      requested_model TEXT NOT NULL,
      adapter_directory TEXT NOT NULL,
      deleted_at INTEGER
    ) STRICT`,
    `INSERT INTO models (sequence, id, project_id, job_id, created_at, owned_by, base_model, requested_model, adapter_directory, deleted_at)
      SELECT sequence, id, project_id, job_id, created_at, owned_by, base_model, requested_model, adapter_directory, deleted_at
      FROM models_before`,
    `DROP TABLE models_before`,
    `CREATE INDEX models_by_project ON models (project_id, sequence)`,
    `CREATE INDEX models_living ON models (project_id, sequence) WHERE deleted_at IS NULL`,
    `CREATE INDEX models_imported ON models (sequence) WHERE job_id IS NULL`,
  ],
  // Which exports of a model were handed out.
  [
    `CREATE TABLE model_exports (
      sequence INTEGER PRIMARY KEY AUTOINCREMENT,
      model TEXT NOT NULL,
      created_at INTEGER NOT NULL,
      format TEXT NOT NULL,
      precision TEXT,
      made_by TEXT NOT NULL
    ) STRICT`,
    `CREATE INDEX model_exports_by_model ON model_exports (model, sequence)`,
  ],
];
