// The two Python programs of a Python grader, as text. LAUNCHER shuts itself in: new user, process and network namespaces and a
// file system of its own that shows nothing but Python, then limits; GRADER runs the client's source and answers on descriptor
// 3. They need Python 3.8, and for isolation Linux 5.12. Who starts them is python-graders.ts.

/** argv: the configuration as JSON, the text of GRADER. Writes {"server": type, "details"} to descriptor 3 when it cannot go on. */
export const LAUNCHER = String.raw`
import ctypes, json, os, resource, signal, sys

config = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RDONLY, NOSUID, NODEV, BIND, MOVE, REC, PRIVATE = 1, 2, 4, 4096, 8192, 16384, 1 << 18
SET_PDEATHSIG, SET_DUMPABLE, SET_NO_NEW_PRIVS = 1, 4, 38
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
NOBODY = 65534

def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what + ": " + os.strerror(ctypes.get_errno()))

def mount(source, target, kind, flags, data=None):
    texts = [None if text is None else text.encode() for text in (source, target, kind)]
    check(libc.mount(*texts, ctypes.c_ulong(flags), None if data is None else data.encode()), "mount " + target)

class MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

def show_read_only(path, root):
    # Links stay links (/bin -> usr/bin); what lies in a folder already shown is there with it.
    target = root + path
    if os.path.lexists(target) or not os.path.lexists(path):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.mkdir(target)
    else:
        open(target, "w").close()
    mount(path, target, None, BIND | REC)
    attributes = MountAttributes(RDONLY | NOSUID | NODEV, 0, 0, 0)
    check(libc.syscall(MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(attributes), 32),
          "read-only " + path)

def leave_root():
    # The superuser is exempt from limits, and may read and write everything that is shown.
    if os.getuid() != 0:
        return
    os.chown(config["root"], NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":
        libc.prctl(SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self stays root's

def isolate(root):
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS), "unshare")
    for file, text in (("setgroups", "deny"), ("uid_map", "%d %d 1" % (NOBODY, uid)), ("gid_map", "%d %d 1" % (NOBODY, gid))):
        with open("/proc/self/" + file, "w") as stream:
            stream.write(text)
    try:
        # No further user namespaces inside of this one, where /proc/sys can be written.
        with open("/proc/sys/user/max_user_namespaces", "w") as stream:
            stream.write("0")
    except OSError:
        pass
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "mode=755,size=%d" % config["maxDiskBytes"])
    python = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *sys.path}
    wanted = ["/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/etc/localtime", *sorted(python, key=len)]
    for path in wanted:
        # "/" would show everything that this is to hide.
        if os.path.isabs(path) and os.path.realpath(path) != "/":
            show_read_only(os.path.normpath(path), root)
    os.makedirs(root + "/dev")
    for device in ("null", "zero", "random", "urandom"):
        open(root + "/dev/" + device, "w").close()
        mount("/dev/" + device, root + "/dev/" + device, None, BIND)
    os.mkdir(root + "/tmp")
    os.chdir(root)
    mount(".", "/", None, MOVE)
    os.chroot(".")
    os.chdir("/tmp")

def limit():
    limits = [(resource.RLIMIT_AS, config["maxMemoryBytes"]), (resource.RLIMIT_CPU, config["maxCpuSeconds"]),
              (resource.RLIMIT_FSIZE, config["maxDiskBytes"]), (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_CORE, 0)]
    if config["isolated"]:
        limits.append((resource.RLIMIT_NPROC, config["maxProcesses"]))
    for kind, value in limits:
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            if config["isolated"]:
                raise

def die_with(parent):
    if sys.platform == "linux":
        libc.prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

def run():
    limit()
    if sys.platform == "linux":
        libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # As nobody, exec drops every capability that the new user namespace gave.
    os.execv(sys.executable, [sys.executable, "-I", "-B", "-X", "utf8", "-c", sys.argv[2]])

try:
    leave_root()
    if not config["isolated"]:
        die_with(config["parent"])
        run()
    isolate(config["root"])
    die_with(config["parent"])
    child = os.fork()
    if child == 0:
        # The parent is outside of this process namespace, where its id reads 0.
        die_with(0)
        run()
    os.close(0)
    os.close(3)
    _, status = os.waitpid(child, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
except BaseException as error:
    try:
        os.write(3, json.dumps({"server": "isolation_unavailable", "details": str(error)}).encode())
    finally:
        os._exit(1)
`;

/** Reads the job as JSON from standard input; answers {"score"} or {"fault": text} on descriptor 3. */
export const GRADER = String.raw`
import ast, json, linecache, math, os, sys, traceback

job = json.loads(sys.stdin.buffer.read())
source = job["source"]

def answer(**result):
    # One write, and out: threads and exit handlers of the source have no say any more.
    os.write(3, json.dumps(result).encode())
    os._exit(0)

def names_grade(node):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return node.name == "grade"
    if isinstance(node, ast.Name):
        return node.id == "grade" and isinstance(node.ctx, ast.Store)
    return isinstance(node, ast.alias) and (node.asname or node.name) in ("grade", "*")

def refuse_the_network(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")):
        raise PermissionError("a Python grader may not use " + event)

try:
    program = compile(source, "<grader>", "exec")
    if job["checkOnly"]:
        if not any(names_grade(node) for node in ast.walk(ast.parse(source))):
            raise NameError("the source defines no function grade(sample, item)")
        answer(score=0)
    linecache.cache["<grader>"] = (len(source), None, source.splitlines(True), "<grader>")
    if job["hooked"]:
        sys.addaudithook(refuse_the_network)
    scope = {"__name__": "grader", "__file__": "<grader>"}
    exec(program, scope)
    if not callable(scope.get("grade")):
        raise NameError("the source defines no function grade(sample, item)")
    value = scope["grade"](job["sample"], job["item"])
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError("grade returned %s; expected a number" % type(value).__name__)
    score = float(value)
    if not math.isfinite(score):
        raise ValueError("grade returned %r; expected a finite number" % score)
    answer(score=score)
except BaseException as error:
    # The first frame is this program's own.
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    text = "".join(traceback.format_exception(type(error), error, trace))
    answer(fault=text[-job["maxDetails"]:])
`;
