// usage: tsx ab.mts ROOT OUT [n] [filter] ; server CPU per request
const [, , root, out, n = "300", filter = "", prof = ""] = process.argv;
import { spawn, execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
const { Connections } = await import(`${root}/bench/api-load.ts`);
const { operationsOn } = await import(`${root}/bench/api-operations.ts`);
const home = "/tmp/w/apirun-" + process.pid;
execFileSync("cp", ["-al", "/tmp/w/apihome", home]);
for (const f of ["tunesmith.db", "tunesmith.db-wal", "tunesmith.db-shm"]) { rmSync(`${home}/${f}`, { force: true }); }
execFileSync("cp", ["/tmp/w/apihome/tunesmith.db", home]);
rmSync(`${home}/server.lock`, { force: true }); rmSync(`${home}/server.pid`, { force: true });
const child = spawn(process.execPath, [...(prof ? ["--cpu-prof", "--cpu-prof-dir=" + prof] : []), "--import", "tsx", `${root}/bench/api-server.ts`, home], { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
const [url] = await once(createInterface(child.stdout!), "line");
const key = (await (await fetch(`${url}/tunesmith/keys`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ scopes: ["admin", "read", "train", "infer"] }) })).json()).key;
const connections = new Connections(url, key, 16);
const built = JSON.parse(readFileSync("/tmp/w/apihome.json", "utf8"));
const ops = operationsOn(connections, built).filter((o: any) => new RegExp(filter).test(o.name));
const stat = () => { const f = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]!.split(" "); return { u: Number(f[11]) * 10, s: Number(f[12]) * 10 }; };
const N = Number(n);
const result: any = {};
const runOp = async (op: any, count: number) => {
  let i = 0; let done = 0;
  // prepares apart, so that only run is counted
  if (op.prepare) { await Promise.all(Array.from({ length: 4 }, async () => { while (i < count) { const k = i++; await op.prepare(k); } })); i = 0; }
  const a = stat(); const t = performance.now();
  await Promise.all(Array.from({ length: 16 }, async () => { while (i < count) { const k = i++; await op.run(k); done++; } }));
  const ms = performance.now() - t; const b = stat();
  if (op.after) { for (let k = 0; k < count; k++) await op.after(); }
  return { user: (b.u - a.u) / count, sys: (b.s - a.s) / count, rps: count / ms * 1000 };
};
for (const op of ops) await runOp(op, 50);
for (let round = 0; round < 2; round++) for (const op of ops) { const r = await runOp(op, N); const o = result[op.name]; if (!o || r.user + r.sys < o.user + o.sys) result[op.name] = r; }
for (const [k, r] of Object.entries<any>(result)) console.log(k.padEnd(34), `user ${r.user.toFixed(2)} sys ${r.sys.toFixed(2)} cpu ${(r.user + r.sys).toFixed(2)} ms  ${r.rps.toFixed(0)}/s`);
writeFileSync(out!, JSON.stringify(result));
connections.close(); child.kill("SIGTERM"); await once(child, "exit"); rmSync(home, { recursive: true, force: true });
