"""Dangerous calls: what each rule must find, and the harmless neighbours that it must not."""

from __future__ import annotations

import time

import pytest

from agent_plugins.scanning import code_rules
from agent_plugins.scanning.engine import scan_diff, scan_text

PYTHON = {
    "python-eval": (
        ["def f(x):\n    return eval(x)", "def f(x):\n    exec('a = ' + x)", "exec(open(path).read())"],
        [
            "eval('1 + 1')",
            "x.eval(query)",
            "def eval(x):\n    return x",
            "CODE = 'a = 1'\nexec(CODE)",
            "eval(x, {'__builtins__': {}})",
            "# eval(x)\ns = 'eval(x)'",
            "ast.literal_eval(x)",
        ],
    ),
    "python-shell": (
        [
            "import os\ndef f(x):\n    os.system('ls ' + x)",
            "from os import system as run\ndef f(x):\n    run(f'ls {x}')",
            "import subprocess as sp\ndef f(x):\n    sp.run(f'ls {x}', shell=True)",
            "import subprocess\ndef f(x):\n    subprocess.Popen('ls %s' % x, shell=1)",
            "import subprocess\ndef f(x):\n    subprocess.check_output('ls {}'.format(x), stderr=None, shell=True)",
            "import asyncio\nasync def f(x):\n    await asyncio.create_subprocess_shell(f'ls {x}')",
        ],
        [
            "import os\nos.system('ls -l')",
            "import subprocess\ndef f(x):\n    subprocess.run(['ls', x])",
            "import subprocess\nsubprocess.run('ls | wc', shell=True)",
            "import subprocess\ndef f(x):\n    subprocess.run(x, shell=False)",
            "import subprocess, shlex\ndef f(x):\n    subprocess.run(f'ls {shlex.quote(x)}', shell=True)",
            "import os\nCOMMAND = 'ls'\nos.system(COMMAND)",
            "import os\nfor n in range(3):\n    os.system(f'sleep {int(n)}')",
            "import platform\nif platform.system() == 'Linux':\n    pass",
            "def f(x):\n    terminal.system('ls ' + x)",
        ],
    ),
    "python-deserialise": (
        ["import pickle\ndef f(b):\n    return pickle.loads(b)", "from pickle import load\ndef f(b):\n    return load(b)",
         "import numpy as np\ndef f(p):\n    return np.load(p, allow_pickle=True)"],
        ["import pickle\ndef f(x):\n    return pickle.loads(pickle.dumps(x))", "import json\ndef f(b):\n    return json.loads(b)",
         "import pickle\ndef f(x, b):\n    pickle.dump(x, b)"],
    ),
    "python-yaml-load": (
        ["import yaml\ndef f(t):\n    return yaml.load(t, Loader=yaml.Loader)", "import yaml\ndef f(t):\n    return yaml.unsafe_load(t)"],
        ["import yaml\ndef f(t):\n    return yaml.safe_load(t)", "import yaml\ndef f(t):\n    return yaml.load(t, Loader=yaml.SafeLoader)",
         "import yaml\ndef f(t):\n    return yaml.load(t, yaml.CSafeLoader)"],
    ),
    "python-temporary-name": (["import tempfile\np = tempfile.mktemp()"], ["import tempfile\np = tempfile.mkstemp()"]),
    "python-password-hash": (
        ["import hashlib\ndef f(password):\n    return hashlib.md5(password.encode()).hexdigest()",
         "import hashlib\ndef f(user):\n    return hashlib.sha256((SALT + user.password).encode())"],
        ["import hashlib\ndef f(data):\n    return hashlib.md5(data).hexdigest()",
         "import hashlib\ndef f(password):\n    return hashlib.scrypt(password, salt=s, n=2, r=8, p=1)",
         "import hashlib\ndef f(password):\n    return hashlib.sha1(password, usedforsecurity=False)"],
    ),
    "python-tls-off": (
        ["import requests\nrequests.get(url, verify=False)", "import ssl\nctx = ssl._create_unverified_context()",
         "import ssl\nctx.verify_mode = ssl.CERT_NONE", "import httpx\nc = httpx.AsyncClient(verify=False)",
         "import paramiko\nclient.set_missing_host_key_policy(paramiko.AutoAddPolicy())"],
        ["import requests\nrequests.get(url, verify=True)", "jsonschema.check(x, verify=False)", "import ssl\nctx.verify_mode = ssl.CERT_REQUIRED"],
    ),
    "python-sql": (
        ["def f(c, x):\n    c.execute(f\"SELECT * FROM t WHERE id = '{x}'\")", "def f(c, x):\n    c.execute('DELETE FROM t WHERE id = %s' % x)",
         "def f(c, x):\n    c.execute('UPDATE t SET a = ' + x)", "def f(c, x):\n    c.execute('SELECT a FROM t WHERE b = {}'.format(x))"],
        ["def f(c, x):\n    c.execute('SELECT * FROM t WHERE id = %s', (x,))", "def f(c):\n    c.execute(f'SELECT * FROM {TABLE} WHERE id = 1')",
         "def f(c, x):\n    c.execute(f'run {x}')", "def f(c, x):\n    pool.execute(task, x + 1)"],
    ),
    "python-unpack": (
        ["import tarfile\nwith tarfile.open(p) as t:\n    t.extractall(d)", "import tarfile\ntarfile.open(p).extractall()"],
        ["import tarfile\nwith tarfile.open(p) as t:\n    t.extractall(d, filter='data')", "import zipfile\nwith zipfile.ZipFile(p) as z:\n    z.extractall(d)"],
    ),
    "python-debug-server": (
        ["from flask import Flask\nserver = Flask(__name__)\nserver.run(debug=True)"],
        ["from flask import Flask\nserver = Flask(__name__)\nserver.run(debug=DEBUG)", "def f(suite):\n    suite.run(debug=True)"],
    ),
    "python-weak-random": (
        ["import random\ntoken = ''.join(random.choice(LETTERS) for _ in range(20))", "import random\nsession['api_key'] = random.getrandbits(64)",
         "from random import randint\ndef make_otp():\n    return randint(1000, 9999)"],
        ["import random\nnumber = random.random()", "import random\ntoken_count = random.randint(1, 9)", "import secrets\ntoken = secrets.choice(LETTERS)"],
    ),
    "python-jwt-unverified": (
        ["import jwt\nclaims = jwt.decode(t, options={'verify_signature': False})", "import jwt\nclaims = jwt.decode(t, key, algorithms=['none'])"],
        ["import jwt\nclaims = jwt.decode(t, key, algorithms=['HS256'])"],
    ),
    "python-weak-cipher": (
        ["from Crypto.Cipher import DES\nc = DES.new(k)", "from Crypto.Cipher import AES\nc = AES.new(k, AES.MODE_ECB)",
         "from cryptography.hazmat.primitives.ciphers import modes\nm = modes.ECB()"],
        ["from Crypto.Cipher import AES\nc = AES.new(k, AES.MODE_GCM)"],
    ),
    "python-world-writable": (["import os\nos.chmod(p, 0o777)", "path.chmod(0o666)"], ["import os\nos.chmod(p, 0o755)", "os.chmod(p, mode)", "os.chmod(p, 0o1777)"]),
}  # fmt: skip

OTHERS = {
    "js-eval": ("a.js", ["eval(input);", "const f = new Function('a', body);", 'window.eval("(" + x + ")")'],
                ["eval('1 + 1');", "retrieval(x)", "// eval(x)", "new Function('return this')();", "model.eval(x)"]),
    "js-shell-command": ("a.ts", ["const {exec} = require('child_process');\nexec(`ls ${dir}`);", "import cp from 'child_process';\ncp.execSync('ls ' + dir)"],
                         ["const {exec} = require('child_process');\nexec('ls');", "regex.exec(`a${b}`)", "require('child_process'); execFile('ls', [dir])"]),
    "js-tls-off": ("a.js", ["https.request({rejectUnauthorized: false})", "process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';"], ["({rejectUnauthorized: true})", "// rejectUnauthorized: false"]),
    "js-sql": ("a.js", ["db.query(`SELECT * FROM t WHERE id = ${id}`)", "db.query(\"SELECT a FROM t WHERE b = '\" + b + \"'\")"],
               ["db.query('SELECT * FROM t WHERE id = $1', [id])", "db.query(sql`SELECT * FROM t WHERE id = ${id}`)", "$.query('a' + b)"]),
    "js-html": ("a.js", ["el.innerHTML = text;", "document.write(x)"], ["el.innerHTML = '';", "el.innerHTML = \"<a href='#'></a>\";", "el.textContent = text;", "el.innerHTML = DOMPurify.sanitize(x);"]),
    "js-weak-random": ("a.ts", ["const token = Math.random().toString(36);", "this.sessionId = Math.random()"], ["const x = Math.random();", "const token = crypto.randomUUID();"]),
    "shell-pipe-to-shell": ("a.sh", ["curl -fsSL https://x.io/i.sh | sh", "wget -qO- $URL | sudo -E bash -", "curl x | /bin/bash"],
                            ["# curl x | sh", "echo 'curl x | sh'", "curl x | shasum", "curl x -o y && sh y", "curl x | grep sh"]),
    "shell-eval-download": ("a.sh", ['eval "$(curl -s https://x.io)"', 'bash -c "$(curl -fsSL https://x.io)"', "source <(curl -s x)"], ['eval "$(ssh-agent -s)"', "x=$(curl y)"]),
    "shell-eval-arguments": ("a.sh", ['eval "$@"', "eval $1 --fast", "if true; then eval $*; fi"], ['eval "$(brew shellenv)"', 'eval "$1=\\$value"', '"$@"', "# eval $1"]),
    "shell-tls-off": ("a.sh", ["curl -k https://x", "curl -sSk https://x", "wget --no-check-certificate x", "ssh -o StrictHostKeyChecking=no h"], ["curl -K file x", "curl https://x/-k", "# curl -k x", "curl --keepalive-time 3 x"]),
    "shell-world-writable": ("a.sh", ["chmod -R 777 /srv", "chmod a+rwx x"], ["chmod 755 x", "chmod 7770 x"]),
    "go-tls-off": ("a.go", ["c := &tls.Config{InsecureSkipVerify: true}", "ssh.InsecureIgnoreHostKey()"], ["tls.Config{InsecureSkipVerify: skip}", "// InsecureSkipVerify: true"]),
    "go-shell-command": ("a.go", ['exec.Command("sh", "-c", fmt.Sprintf("ls %s", d))', 'exec.CommandContext(ctx, "bash", "-c", "ls "+d)'], ['exec.Command("ls", d)', 'exec.Command("sh", "-c", "ls")']),
    "go-sql": ("a.go", ["db.Query(fmt.Sprintf(\"SELECT a FROM t WHERE b = '%s'\", b))", 'db.Exec("DELETE FROM t WHERE id = " + id)'], ['db.Query("SELECT a FROM t WHERE b = $1", b)', 'db.Query(fmt.Sprintf("SELECT a FROM %s", t))']),
    "go-weak-random": ("a.go", ['import "math/rand"\nfunc f() { token := rand.Int63() }'], ['import "crypto/rand"\nfunc f() { token := rand.Int63() }', 'import "math/rand"\nvar n = rand.Intn(3)']),
    "java-command": ("A.java", ['Runtime.getRuntime().exec("ls " + dir);'], ['Runtime.getRuntime().exec("ls");', "Runtime.getRuntime().exec(argv);"]),
    "java-sql": ("A.java", ["st.executeQuery(\"SELECT a FROM t WHERE b = '\" + b + \"'\");"], ['c.prepareStatement("SELECT a FROM t WHERE b = ?");', 'log.execute("SELECT it " + b)']),
    "java-trust-all": ("A.java", ["public void checkServerTrusted(X509Certificate[] c, String a) {}", "b.setSSLHostnameVerifier(NoopHostnameVerifier.INSTANCE)"],
                       ["public void checkServerTrusted(X509Certificate[] c, String a) { inner.checkServerTrusted(c, a); }"]),
    "java-weak-cipher": ("A.java", ['Cipher.getInstance("DES/CBC/PKCS5Padding")', 'Cipher.getInstance("AES")', 'Cipher.getInstance("AES/ECB/PKCS5Padding")'], ['Cipher.getInstance("AES/GCM/NoPadding")']),
    "java-deserialise": ("A.java", ["var in = new ObjectInputStream(socket.getInputStream());"], ["class F extends ObjectInputStream {}"]),
    "java-weak-random": ("A.java", ["String token = Long.toString(new Random().nextLong());"], ["int n = new Random().nextInt();", "String token = f(new SecureRandom());"]),
    "c-gets": ("a.c", ["gets(line);", "  if (gets(buf) == NULL)"], ["fgets(line, 10, f);", "extern char *gets(char *s);", "a->gets(x);", "// gets(line);"]),
    "c-unbounded-copy": ("a.c", ["strcpy(a, b);", 'sprintf(a, "%s", b);', "strcat(path, argv[1]);"], ['strcpy(a, "x");', 'sprintf(a, "%d", b);', "char *strcpy(char *, const char *);", "snprintf(a, 3, b);", "strncpy(a, b, 3);"]),
    "c-format": ("a.c", ["printf(text);", "fprintf(stderr, message);", "syslog(LOG_ERR, line);"], ['printf("%s", text);', 'printf("x");', "printf(_(text));", "vprintf(fmt, ap);", "printf(fmt);"]),
    "c-system": ("a.cpp", ["system(command);", "std::system(line.c_str());", "FILE *f = popen(cmd, mode);"], ['system("ls");', "int system(const char *command);", "file.system(x);", "system(NULL);"]),
    "c-temporary-name": ("a.c", ["tmpnam(name);", "p = mktemp(template);"], ["mkstemp(template);"]),
    "php-request-to-code": ("a.php", ["<?php eval($_GET['x']);", "<?php include($_REQUEST['p']);", "<?php system('ls ' . $_POST['d']);"], ["<?php eval('1');", "<?php include('a.php');", "<?php echo $_GET['x'];"]),
    "php-sql": ("a.php", ["<?php q(\"SELECT * FROM t WHERE id = '\" . $_GET['id'] . \"'\");", '<?php q("SELECT a FROM t WHERE b = $_POST[b]");'], ["<?php q('SELECT 1'); $x = $_GET['y'];"]),
    "ruby-shell-command": ("a.rb", ['system("ls #{dir}")', "eval(params[:x])"], ['system("ls")', 'system("ls", dir)', 'filesystem("#{x}")', 'system("ls #{Shellwords.escape(x)}")']),
    "rust-tls-off": ("a.rs", ["b.danger_accept_invalid_certs(true)"], ["b.danger_accept_invalid_certs(false)", "// danger_accept_invalid_certs(true)"]),
    "container-privileged": ("k8s.yml", ["spec:\n  securityContext:\n    privileged: true", "  hostPID: true"], ["    privileged: false", "# privileged: true", "text: 'privileged: true'"]),
    "container-socket": ("compose.yml", ["volumes:\n  - /var/run/docker.sock:/var/run/docker.sock"], ["# - /var/run/docker.sock:/x", "host: unix:///var/run/docker.sock"]),
    "docker-run-privileged": ("a.sh", ["docker run --rm --privileged x"], ["docker run x", "docker inspect --privileged"]),
    "actions-moving-version": (".github/workflows/a.yml", ["steps:\n  - uses: acme/deploy@main"], ["steps:\n  - uses: actions/checkout@v4\n  - uses: ./local@main", "- uses: a/b@11bd71901bbe5b1630ceea73d27597364c9af683"]),
    "actions-unsafe-commands": (".github/workflows/a.yml", ["env:\n  ACTIONS_ALLOW_UNSECURE_COMMANDS: true"], ["env:\n  ACTIONS_ALLOW_UNSECURE_COMMANDS: false"]),
    "actions-injection": (
        ".github/workflows/a.yml",
        ["steps:\n  - run: echo ${{ github.event.issue.title }}", 'steps:\n  - name: x\n    run: |\n      make\n      echo "${{ github.head_ref }}"\n',
         "steps:\n  - uses: actions/github-script@v7\n    with:\n      script: |\n        f(`${{ github.event.comment.body }}`)"],
        ["steps:\n  - run: echo $TITLE\n    env:\n      TITLE: ${{ github.event.issue.title }}", "steps:\n  - run: echo ${{ github.event.issue.number }}",
         "on: push\nif: ${{ github.event.issue.title }}", "steps:\n  - run: echo ${{ github.sha }}"],
    ),
    "actions-untrusted-checkout": (
        ".github/workflows/a.yml",
        ["on: pull_request_target\nsteps:\n  - uses: actions/checkout@v4\n    with:\n      ref: ${{ github.event.pull_request.head.sha }}"],
        ["on: pull_request\nsteps:\n  - with:\n      ref: ${{ github.event.pull_request.head.sha }}", "on: pull_request_target\nsteps:\n  - uses: actions/checkout@v4"],
    ),
}  # fmt: skip
BAD = [(rule, "app.py", text) for rule, (bad, _) in PYTHON.items() for text in bad]
BAD += [(rule, path, text) for rule, (path, bad, _) in OTHERS.items() for text in bad]
GOOD = [(rule, "app.py", text) for rule, (_, good) in PYTHON.items() for text in good]
GOOD += [(rule, path, text) for rule, (path, _, good) in OTHERS.items() for text in good]


def rules_of(path, text):
    return [finding.rule for finding in scan_text(path, text + "\n").findings]


def test_every_rule_over_code_has_examples():
    assert sorted(rule.id for rule in code_rules.PYTHON) == sorted(PYTHON)
    assert sorted(rule.id for rule in code_rules.CODE) == sorted(OTHERS)


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(BAD)])
def test_a_dangerous_call_is_found_once(rule, path, text):
    assert rules_of(path, text) == [rule]


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=[f"{rule}-{n}" for n, (rule, _, _) in enumerate(GOOD)])
def test_its_harmless_neighbours_are_not(rule, path, text):
    assert rule not in rules_of(path, text)


def test_what_visibly_comes_from_outside_is_high():
    for text in ("eval(input())", "import sys\nexec(sys.argv[1])", "def f(request):\n    return eval(request.args['x'])"):
        assert [(each.rule, each.severity) for each in scan_text("a.py", text).findings] == [("python-eval", "high")]


def test_a_table_name_in_sql_is_low_and_a_value_is_high():
    name = scan_text("a.py", "def f(c, t):\n    c.execute(f'SELECT a FROM {t} WHERE b = ?', (1,))\n").findings
    value = scan_text("a.py", "def f(c, v):\n    c.execute(f'SELECT a FROM t WHERE b = {v}')\n").findings

    assert [each.severity for each in (*name, *value)] == ["low", "high"]


def test_positions_are_lines_and_characters_also_after_letters_of_many_bytes():
    found = scan_text("a.py", "x = 'ünïcödé → '; eval(y)\n").findings[0]

    assert (found.line, found.column, found.end_line, found.end_column) == (1, 19, 1, 26)


def test_line_ends_of_other_systems_do_not_move_lines():
    for end in ("\n", "\r\n", "\r"):
        found = scan_text("a.py", end.join(["import os", "", "os.system(x)", ""])).findings
        assert [(each.line, each.column) for each in found] == [(3, 1)]


def test_in_tests_and_examples_only_the_worst_calls_are_reported_and_as_low():
    text = "import os, pickle\ndef f(x):\n    os.system('ls ' + x)\n    pickle.loads(x)\n"

    assert [(each.rule, each.severity) for each in scan_text("tests/a.py", text).findings] == [("python-shell", "low")]


def test_python_that_does_not_parse_is_searched_for_secrets_still():
    token = "sk_live_" + "Zq8Xw2Lm9Rt4Kp7Vb3Nc6Hd1"
    text = f"def f(:\n  key = '{token}'\n"

    assert rules_of("a.py", text) == ["stripe-key"]


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "-" * 200_000 + "1", "[" * 50_000 + "]" * 50_000, "a." * 200_000 + "b", "lambda: " * 20_000 + "1", "eval(" * 30_000, "x = " * 50_000 + "eval(y)", "eval(y)\0", "if 1:\n" * 200],
    ids=["brackets", "signs", "lists", "dots", "lambdas", "calls", "assignments", "nul", "unfinished"],
)  # fmt: skip
def test_python_made_to_break_a_parser_breaks_nothing(text):
    scan_text("a.py", text + "\n")
    scan_text("a.py", "eval(z)\n" + text + "\n")


HOSTILE = {
    "js": ("a.js", "eval(" * 100_000), "js-quotes": ("a.js", "`${" * 150_000), "js-comments": ("a.js", "/*" * 300_000),
    "js-lines": ("a.js", "db.query(`SELECT \n" * 30_000), "shell": ("a.sh", "curl \n" * 100_000), "shell-long": ("a.sh", "curl " * 100_000),
    "c": ("a.c", "strcpy(\n" * 60_000), "c-printf": ("a.c", 'sprintf(a, "\n' * 40_000), "go": ("a.go", "exec.Command(\n" * 40_000),
    "java": ("A.java", 'x.execute("SELECT \n' * 30_000), "yaml": ("a.yml", "runs-on: x\n" + "  - run: |\n" * 40_000),
    "yaml-values": ("a.yml", "runs-on: x\nrun: " + "${{ github.event." * 40_000), "php": ("a.php", "<?php 'SELECT $_GET\n" * 20_000),
    "python-docs": ("a.py", "password = '''" * 40_000), "python-hunk": ("a.py", "eval(x\n" * 20_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_takes_time_in_proportion_to_its_length(name):
    path, text = HOSTILE[name]
    began = time.process_time()
    scan_text(path, text)
    scan_diff(
        f"--- a/{path}\n+++ b/{path}\n@@ -1,0 +1,{text.count(chr(10)) + 1} @@\n"
        + "".join(f"+{line}\n" for line in text.split("\n"))
    )

    assert time.process_time() - began < 8
