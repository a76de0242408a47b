r"""code_rules - dangerous calls: Python's by syntax tree (`python_calls`), other languages by pattern.

Patterns run over a view of the text without comments and without the contents of strings (`languages.code_view`), unless a rule
says `strings`. They are written for few false alarms: a call on a literal is no finding, a call on something computed is.
"""

from __future__ import annotations

from typing import Any

from agent_plugins.scanning.rules import Rule

_JS, _SHELL, _GO, _JAVA, _C = (frozenset({each}) for each in ("javascript", "shell", "go", "java", "c"))
_PHP, _RUBY, _RUST, _YAML, _MAKE = (frozenset({each}) for each in ("php", "ruby", "rust", "yaml", "make"))
_WORKFLOW, _WORKFLOW_FILE = frozenset({"workflow"}), frozenset({"workflow-file"})
_RUNS = frozenset({"shell", "dockerfile", "make", "yaml"})
# an assignment to a name that says it is a secret
_NAMED_SO = (
    r"(?i)\b\w{0,30}(?:token|password|passwd|secret|nonce|session_?id|api_?key|otp\b|salt)\w{0,20}\s{0,4}"
    r"(?::\s{0,2}\w{1,20}\s{0,2})?(?::=|=)(?!=)"
)
_NO_COMMENT = r"^(?!\s{0,200}(?:#|echo\b|printf\b))"
# what follows "(" is no plain literal: quotes are kept in the view, contents are blanks
_COMPUTED = r"(?!\s{0,20}(?:(?:[\"'] {0,500}[\"']|`[^`$]{0,500}`)\s{0,20}[,)]|\)))"


def _code(id_: str, severity: str, languages: frozenset[str], cwe: int, message: str, **more: Any) -> Rule:
    return Rule(id_, severity, message, languages=languages, kind="code", check="", cwe=cwe, **more)


def _python(id_: str, severity: str, cwe: int, message: str, **more: Any) -> Rule:
    return _code(id_, severity, frozenset({"python"}), cwe, message, **more)


CODE = (
    # -- JavaScript and TypeScript
    _code(
        "js-eval",
        "medium",
        _JS,
        95,
        "eval or Function on computed text",
        why="Text that others can influence becomes code.",
        fix="Parse data with JSON.parse, or call functions from a table.",
        pattern=(
            r"(?:(?<![\w.$])|(?<=window\.)|(?<=globalThis\.))(?:eval\s{0,4}\("
            + _COMPUTED
            + r"|new\s{1,4}Function\s{0,4}\((?!\s{0,20}(?:[\"'] {0,500}[\"']\s{0,20},?\s{0,20}){0,6}\)))"
        ),
        hints=("eval", "Function"),
        on_line=r"^(?!\s{0,200}(?:function\b|async eval|static eval|eval\s{0,4}\([^)]{0,80}\)\s{0,4}[:{]))",
    ),
    _code(
        "js-shell-command",
        "high",
        _JS,
        78,
        "A shell command is built from computed text",
        why="exec and execSync hand the text to a shell: quotes and semicolons inside it become commands.",
        fix="Use execFile or spawn with a list of arguments and without `shell`.",
        pattern=(
            r"(?<![\w$])(?:child_process\.|cp\.|childProcess\.)?exec(?:Sync)?\s{0,4}\(\s{0,20}(?:`[^`]{0,400}?\$\{"
            r"|[\"'][^\"'\n]{0,400}[\"']\s{0,10}\+)"
        ),
        hints=("exec(", "execSync("),
        also=("child_process",),
        strings=True,
    ),
    _code(
        "js-tls-off",
        "medium",
        _JS,
        295,
        "TLS certificates are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Trust the right CA (option `ca`, NODE_EXTRA_CA_CERTS) instead.",
        pattern=(
            r"(?:rejectUnauthorized[\"']?\s{0,4}:\s{0,4}(?:false|!1)"
            r"|NODE_TLS_REJECT_UNAUTHORIZED[\"'\]]{0,2}\s{0,4}=\s{0,4}[\"']?0)"
        ),
        hints=("rejectUnauthorized", "NODE_TLS_REJECT_UNAUTHORIZED"),
        strings=True,
    ),
    _code(
        "js-sql",
        "medium",
        _JS,
        89,
        "SQL is built from computed text",
        why="A value that holds a quote changes the statement.",
        fix="Use placeholders and pass the values separately.",
        pattern=(
            r"\.(?:query|execute|raw|\$queryRawUnsafe|\$executeRawUnsafe)\s{0,4}\(\s{0,20}(?:`\s{0,20}(?:SELECT|INSERT"
            r"|UPDATE|DELETE)\s[^`]{0,600}?(?:=|LIKE|VALUES\s{0,4}\(|IN\s{0,4}\()\s{0,4}['(]?\$\{"
            r"|[\"']\s{0,4}(?:SELECT|INSERT|UPDATE|DELETE)\s[^\"\n]{0,400}(?:=|LIKE|\()\s{0,4}'?[\"']\s{0,10}\+)"
        ),
        hints=(".query", ".execute", ".raw", "rawunsafe"),
        strings=True,
        ignore_case=True,
    ),
    _code(
        "js-html",
        "low",
        _JS,
        79,
        "HTML is set from computed text",
        why="Markup in the text runs as script in the reader's page.",
        fix="Set textContent, or sanitise the markup.",
        pattern=(
            r"(?:\.(?:inner|outer)HTML\s{0,4}\+?=(?!=)\s{0,4}+(?![\"'`][^\"'`$]{0,500}[\"'`]\s{0,4}(?:;|$))"
            r"|\bdocument\.write(?:ln)?\s{0,4}\(" + _COMPUTED + r")"
        ),
        hints=("innerHTML", "outerHTML", "document.write"),
        on_line=r"(?i)^(?!.{0,400}(?:sanitize|purify|escape|trustedHTML))",
    ),
    _code(
        "js-weak-random",
        "medium",
        _JS,
        338,
        "Math.random makes a secret",
        why="Its output can be predicted from a few earlier values.",
        fix="Use crypto.randomUUID or crypto.getRandomValues.",
        pattern=r"Math\.random\s{0,4}\(",
        hints=("Math.random",),
        on_line=_NAMED_SO,
    ),
    # -- shell, also inside Dockerfiles, Makefiles and workflow files
    _code(
        "shell-pipe-to-shell",
        "medium",
        _RUNS,
        494,
        "A download is run without a look at it",
        why="Whoever controls the server, or the way to it, runs commands here.",
        fix="Download, compare a pinned checksum, then run.",
        pattern=(
            r"(?<![\w.-])(?:curl|wget)\s[^\n|;&#]{0,300}\|\s{0,4}(?:sudo\s{1,4}(?:-\w\s{1,4}){0,3}"
            r")?(?:/(?:usr/)?bin/)?(?:env\s{1,4})?(?:ba|z|da|k)?sh(?![\w.-])"
        ),
        hints=("curl", "wget"),
        on_line=r"^(?!\s{0,200}(?:-\s)?(?:#|echo\b|printf\b|//|@echo\b|\w{0,30}echo |name:|description:))",
        strings=True,
    ),
    _code(
        "shell-eval-download",
        "high",
        _RUNS,
        494,
        "A download is evaluated",
        why="Whoever controls the server, or the way to it, runs commands here.",
        fix="Download, compare a pinned checksum, then run.",
        pattern=r"(?<![\w-])(?:eval|source|\.|(?:ba|z|da)?sh\s{1,4}-c)\s{1,4}[\"']?(?:\$\(|`|<\()\s{0,4}(?:curl|wget)\s",
        hints=("curl", "wget"),
        on_line=_NO_COMMENT,
        strings=True,
    ),
    _code(
        "shell-eval-arguments",
        "medium",
        _SHELL,
        95,
        "eval on the arguments of the script",
        why="Quotes, `$(…)` and semicolons in an argument become commands.",
        fix='Call "$@" directly, or use an array.',
        pattern=r"(?:^|[;&|]|\bthen\b|\bdo\b)\s{0,8}eval\s{1,4}(?:--\s{1,4})?[\"']?\$\{?[1-9@*]\}?(?!\w{0,40}\+?=)",
        hints=("eval",),
        strings=True,
    ),
    _code(
        "shell-tls-off",
        "low",
        _RUNS,
        295,
        "TLS certificates or host keys are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Trust the right CA or the known host key instead.",
        pattern=(
            r"(?<![\w-])(?:curl\s(?:[^\n|;&#]{0,200}\s)?(?:-[a-zA-Z]{0,6}k[a-zA-Z]{0,6}|--insecure)(?=\s)"
            r"|wget\s[^\n|;&#]{0,200}--no-check-certificate|StrictHostKeyChecking[= ]no\b"
            r"|git\s[^\n;|&]{0,80}http\.sslVerify[= ]false)"
        ),
        hints=("curl", "wget", "StrictHostKeyChecking", "sslVerify"),
        on_line=_NO_COMMENT,
        strings=True,
    ),
    _code(
        "shell-world-writable",
        "low",
        _RUNS,
        732,
        "Everybody may write to it",
        why="Any user or process can replace the content.",
        fix="Give the narrowest mode that works.",
        pattern=r"(?<![\w-])chmod\s{1,4}(?:-[a-zA-Z]{1,4}\s{1,4}){0,2}(?:0?777|a\+rwx|ugo\+rwx)(?!\w)",
        hints=("chmod",),
        on_line=_NO_COMMENT,
        strings=True,
    ),
    # -- Go
    _code(
        "go-tls-off",
        "medium",
        _GO,
        295,
        "TLS certificates or host keys are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Set RootCAs, or ssh.FixedHostKey.",
        pattern=r"\bInsecureSkipVerify\s{0,4}[:=]\s{0,4}true\b|\bssh\.InsecureIgnoreHostKey\s{0,4}\(",
        hints=("InsecureSkipVerify", "InsecureIgnoreHostKey"),
    ),
    _code(
        "go-shell-command",
        "medium",
        _GO,
        78,
        "A shell runs computed text",
        why="Quotes and semicolons in the text become commands.",
        fix="Run the program itself with a list of arguments.",
        pattern=(
            r"\bexec\.Command(?:Context)?\s{0,4}\((?:[\w.()]{1,60},\s{0,4})?\"(?:/bin/)?(?:ba|z"
            r"|da)?sh\",\s{0,4}\"-l?c\",\s{0,4}(?:fmt\.Sprintf|\"[^\"\n]{0,300}\"\s{0,4}\+|[a-z]\w{0,60}\s{0,4}\+)"
        ),
        hints=("exec.Command",),
        strings=True,
    ),
    _code(
        "go-sql",
        "medium",
        _GO,
        89,
        "SQL is built from computed text",
        why="A value that holds a quote changes the statement.",
        fix="Use placeholders and pass the values separately.",
        pattern=(
            r"\.(?:Query|QueryRow|Exec|Raw)(?:Context)?\s{0,4}\((?:\s{0,4}[\w.()]{1,40}\s{0,4},)?\s{0,20}"
            r"(?:fmt\.Sprintf\s{0,4}\(\s{0,20}[\"`]\s{0,40}(?:SELECT|INSERT|UPDATE|DELETE)\s[^\"`]{0,500}(?:=|LIKE"
            r"|VALUES\s{0,4}\(|IN\s{0,4}\()\s{0,4}'?%[svqd]|\"\s{0,4}(?:SELECT|INSERT|UPDATE"
            r"|DELETE)\s[^\"\n]{0,400}(?:=|LIKE|\()\s{0,4}'?\"\s{0,4}\+)"
        ),
        hints=(".query", ".exec", ".raw"),
        strings=True,
        ignore_case=True,
    ),
    _code(
        "go-weak-random",
        "medium",
        _GO,
        338,
        "math/rand makes a secret",
        why="Its output can be predicted.",
        fix="Use crypto/rand.",
        pattern=r"(?<![\w.])rand\.(?:Int|Intn|Int31n?|Int63n?|Uint32|Uint64|IntN|Perm|Read)\s{0,4}\(",
        hints=("rand.",),
        also=('"math/rand',),
        on_line=_NAMED_SO,
    ),
    # -- Java, Kotlin, Scala
    _code(
        "java-command",
        "medium",
        _JAVA,
        78,
        "A command line is built from computed text",
        why="Text that others can influence becomes words of the command.",
        fix="Use ProcessBuilder with a list of arguments.",
        pattern=(
            r"getRuntime\s{0,4}\(\s{0,4}\)\s{0,10}\.exec\s{0,4}\(\s{0,20}(?:\"[^\"\n]{0,300}\"\s{0,10}\+"
            r"|\w{1,60}\s{0,10}\+|\"[^\"\n]{0,300}\$)"
        ),
        hints=("getRuntime",),
        strings=True,
    ),
    _code(
        "java-sql",
        "medium",
        _JAVA,
        89,
        "SQL is built from computed text",
        why="A value that holds a quote changes the statement.",
        fix="Use a PreparedStatement with placeholders.",
        pattern=(
            r"\.(?:execute|executeQuery|executeUpdate|prepareStatement|createNativeQuery|createQuery|queryForObject"
            r"|queryForList)\s{0,4}\(\s{0,20}\"\s{0,4}(?:SELECT|INSERT|UPDATE|DELETE|FROM)\s[^\"\n]{0,400}(?:=|LIKE"
            r"|\()\s{0,4}['%]{0,2}\"\s{0,20}\+"
        ),
        hints=(".execute", ".preparestatement", ".create", ".queryfor"),
        strings=True,
        ignore_case=True,
    ),
    _code(
        "java-trust-all",
        "high",
        _JAVA,
        295,
        "TLS certificates are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Use the default trust manager, or one with your CA.",
        pattern=(
            r"checkServerTrusted\s{0,4}\([^)]{0,200}\)\s{0,10}(?:throws\s[\w., ]{1,80})?\{\s{0,40}\}"
            r"|\b(?:NoopHostnameVerifier\.INSTANCE|ALLOW_ALL_HOSTNAME_VERIFIER|TrustAllStrategy\.INSTANCE"
            r"|InsecureTrustManagerFactory\.INSTANCE)\b"
        ),
        hints=(
            "checkServerTrusted",
            "NoopHostnameVerifier",
            "ALLOW_ALL_HOSTNAME_VERIFIER",
            "TrustAllStrategy",
            "InsecureTrustManagerFactory",
        ),
    ),
    _code(
        "java-weak-cipher",
        "medium",
        _JAVA,
        327,
        "A weak cipher or mode",
        why="DES and RC4 can be broken; ECB shows which blocks are equal.",
        fix="Use AES/GCM/NoPadding with a fresh nonce.",
        pattern=(
            r"Cipher\.getInstance\s{0,4}\(\s{0,4}\"(?:DES|DESede|RC4|ARCFOUR|Blowfish)(?:/[^\"\n]{0,40})?\""
            r"|Cipher\.getInstance\s{0,4}\(\s{0,4}\"AES(?:/ECB/[^\"\n]{0,40})?\""
        ),
        hints=("Cipher.getInstance",),
        strings=True,
    ),
    _code(
        "java-deserialise",
        "low",
        _JAVA,
        502,
        "Objects are read from a stream",
        why="Crafted bytes can run code while they are read.",
        fix="Use a data format such as JSON, or an ObjectInputFilter.",
        pattern=r"new\s{1,4}ObjectInputStream\s{0,4}\((?!\s{0,4}new\s{1,4}ByteArrayInputStream)",
        hints=("ObjectInputStream",),
    ),
    _code(
        "java-weak-random",
        "medium",
        _JAVA,
        338,
        "A predictable generator makes a secret",
        why="Its output can be predicted.",
        fix="Use SecureRandom.",
        pattern=r"new\s{1,4}Random\s{0,4}\(|(?<!\w)Math\.random\s{0,4}\(|RandomStringUtils\.random",
        hints=("Random", "random"),
        on_line=_NAMED_SO,
    ),
    # -- C and C++
    _code(
        "c-gets",
        "high",
        _C,
        242,
        "gets cannot know the size of the buffer",
        why="Any line that is too long overwrites memory.",
        fix="Use fgets with the buffer's size.",
        pattern=r"(?<![\w.>:])(?:std::)?gets\s{0,4}\(\s{0,8}[A-Za-z_][\w.>\[\]-]{0,60}\s{0,8}\)",
        hints=("gets",),
        on_line=r"^(?!\s{0,40}(?:(?:extern|char|static)\b|#|\*))",
    ),
    _code(
        "c-unbounded-copy",
        "low",
        _C,
        120,
        "A copy or print without a bound",
        why="Text that is too long overwrites memory.",
        fix="Use snprintf, strlcpy or a string with a length.",
        pattern=(
            r"(?<![\w.>:])(?:std::)?(?:(?:strcpy|strcat|stpcpy)\s{0,4}\([^,;\n]{1,200},(?!\s{0,8}(?:\"|L\""
            r"|[A-Z_]{3,60}\s{0,4}\)))|(?:sprintf|vsprintf)\s{0,4}\([^,;\n]{1,200},\s{0,8}(?:\"[^\"\n]{0,200}%s"
            r"|[a-z]))"
        ),
        hints=("strcpy", "strcat", "stpcpy", "sprintf"),
        on_line=r"^(?!\s{0,40}(?:extern|char|int|static|__NTH)\b|\s{0,40}(?:#|\*|//)|.{0,400}\bchar\s{0,4}\*\s{0,4}__)",
        strings=True,
    ),
    _code(
        "c-format",
        "medium",
        _C,
        134,
        "A variable is the format",
        why="Percent signs in the text read and write memory.",
        fix='Print it with "%s".',
        pattern=(
            r"(?<![\w.>:])(?:(?:printf|vprintf|syslog)\s{0,4}\(\s{0,4}(?:LOG_[A-Z]{2,10}\s{0,2}\|?\s{0,2}[A-Z_]{0,20}"
            r"\s{0,4},\s{0,4})?|(?:fprintf|dprintf)\s{0,4}\(\s{0,4}[\w.>-]{1,40}\s{0,4},\s{0,4})(?!(?:fmt|format"
            r"|usage\w{0,10}|help\w{0,10}|_)\b)[a-z]\w{0,40}(?:\[[\w ]{0,20}\])?\s{0,4}\)\s{0,4};"
        ),
        hints=("printf", "syslog"),
    ),
    _code(
        "c-system",
        "medium",
        _C,
        78,
        "system or popen on computed text",
        why="Quotes and semicolons in the text become commands.",
        fix="Use posix_spawn or execv with a list of arguments.",
        pattern=(
            r"(?<![\w.>:])(?:std::|::)?(?:system|popen)\s{0,4}\(\s{0,8}(?![\"LN)]|void\b|const\b|char\b|std::string\b"
            r"|int\b)[A-Za-z_]"
        ),
        hints=("system", "popen"),
        on_line=r"^(?!\s{0,40}(?:(?:extern|int\s{1,4}system)\b|#|\*))",
    ),
    _code(
        "c-temporary-name",
        "low",
        _C,
        377,
        "A temporary name that somebody else can take first",
        why="Between name and opening the file can be replaced.",
        fix="Use mkstemp.",
        pattern=r"(?<![\w.>:])(?:tmpnam|tempnam|mktemp)\s{0,4}\(\s{0,8}[A-Za-z_\"N]",
        hints=("tmpnam", "tempnam", "mktemp"),
        on_line=r"^(?!\s{0,40}(?:(?:extern|char|static)\b|#|\*))",
    ),
    # -- PHP, Ruby, Rust
    _code(
        "php-request-to-code",
        "high",
        _PHP,
        94,
        "What a request says reaches code, a command or a file",
        why="The sender of the request decides what runs.",
        fix="Look the value up in a list of what is allowed.",
        pattern=(
            r"(?<![\w>$:])(?:eval|assert|system|exec|passthru|shell_exec|popen|proc_open|unserialize|include(?:_once)?"
            r"|require(?:_once)?)\s{0,4}\(?\s{0,4}(?:[\"'][^\"'\n]{0,100}[\"']\s{0,4}\.\s{0,4})?\$_(?:GET|POST|REQUEST"
            r"|COOKIE|SERVER|FILES)\b"
        ),
        hints=("$_",),
        strings=True,
    ),
    _code(
        "php-sql",
        "high",
        _PHP,
        89,
        "What a request says is put into SQL",
        why="The sender of the request changes the statement.",
        fix="Use prepared statements.",
        pattern=r"[\"']\s{0,4}(?:SELECT|INSERT|UPDATE|DELETE)\s[^;\n]{0,400}?(?:\{?\$_(?:GET|POST|REQUEST|COOKIE)\b)",
        hints=("$_",),
        strings=True,
    ),
    _code(
        "ruby-shell-command",
        "medium",
        _RUBY,
        78,
        "A shell command is built from request parameters or interpolation",
        why="Quotes and semicolons in the text become commands.",
        fix="Pass system or Open3 a list of arguments.",
        pattern=(
            r"(?<![\w.:])(?:system|exec|spawn|eval|instance_eval)[ (]\s{0,4}(?:params\b"
            r"|[\"'][^\"'\n]{0,300}#\{(?!\s{0,4}Shellwords))|%x[\[({][^\])}\n]{0,200}#\{\s{0,4}params"
        ),
        hints=("system", "exec", "spawn", "eval", "%x"),
        strings=True,
    ),
    _code(
        "rust-tls-off",
        "medium",
        _RUST,
        295,
        "TLS certificates are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Add your CA with add_root_certificate.",
        pattern=r"danger_accept_invalid_(?:certs|hostnames)\s{0,4}\(\s{0,4}true",
        hints=("danger_accept_invalid",),
    ),
    # -- containers and clusters
    _code(
        "container-privileged",
        "medium",
        _YAML,
        250,
        "A container with all rights of the host",
        why="Whoever gets into the container has the machine.",
        fix="Name the capabilities that are needed.",
        pattern=r"^[ -]{0,200}(?:privileged|hostPID|allowPrivilegedContainer)\s{0,4}:\s{0,4}[\"']?true\b",
        hints=("privileged", "hostPID", "allowPrivilegedContainer"),
    ),
    _code(
        "container-socket",
        "medium",
        _YAML | _SHELL,
        250,
        "The container engine's socket is given to a container",
        why="Whoever can write to it can start containers with all rights.",
        fix="Use a proxy that permits only what is needed.",
        pattern=r"^[ \t-]{1,200}[\"']?/var/run/docker\.sock:|(?:-v|--volume|--mount)[= ][^\n]{0,40}/var/run/docker\.sock",
        hints=("docker.sock",),
        strings=True,
    ),
    _code(
        "docker-run-privileged",
        "low",
        _SHELL | _MAKE,
        250,
        "A container with all rights of the host",
        why="Whoever gets into the container has the machine.",
        fix="Name the capabilities that are needed with --cap-add.",
        pattern=r"(?<![\w-])(?:docker|podman)\s{1,4}run\s[^\n;|&]{0,200}--privileged\b",
        hints=("--privileged",),
    ),
    # -- workflows; `workflows` finds the scripts in them
    _code(
        "actions-injection",
        "high",
        _WORKFLOW,
        94,
        "What anybody can write reaches a script of the workflow",
        why='${{ … }} is replaced before the shell reads the script: a title such as `"; curl …` becomes a command.',
        fix='Put the value in `env:` and use it as "$NAME".',
        pattern=(
            r"\$\{\{[^}\n]{0,80}?\bgithub\.(?:head_ref\b|event\.(?:issue|pull_request|discussion)\.(?:title|body)\b"
            r"|event\.pull_request\.head\.(?:ref|label|repo\.default_branch)\b|event\.(?:comment|review"
            r"|review_comment)\.body\b|event\.pages[^}\n]{0,30}page_name|event\.(?:commits"
            r"|head_commit)\b[^}\n]{0,20}\.(?:message|author\.(?:email|name))\b|event\.workflow_run\.(?:head_branch"
            r"|head_commit\.(?:message|author\.(?:email|name)))\b|event\.inputs\.\w{1,60})"
        ),
        hints=("github.event", "github.head_ref"),
        strings=True,
    ),
    _code(
        "actions-untrusted-checkout",
        "high",
        _WORKFLOW_FILE,
        829,
        "A privileged workflow checks out what a stranger wrote",
        why="pull_request_target runs with secrets and a write token; the code of the pull request then runs with them.",
        fix="Use pull_request, or do not run anything that was checked out.",
        pattern=(
            r"\bref\s{0,4}:\s{0,4}[\"']?\$\{\{\s{0,4}(?:github\.event\.pull_request\.head\.(?:sha|ref)"
            r"|github\.head_ref|format\([^)\n]{0,80}pull[^}\n]{0,80})"
        ),
        hints=("github.",),
        also=("pull_request_target",),
        strings=True,
    ),
    _code(
        "actions-moving-version",
        "low",
        _WORKFLOW_FILE,
        829,
        "An action of others is used at a branch",
        why="Its owner, or a thief of the account, changes what runs here.",
        fix="Pin it to a full commit hash.",
        pattern=(
            r"\buses\s{0,4}:\s{0,4}[\"']?(?!(?:\./|docker:))[\w.-]{1,80}/[\w./-]{1,120}@(?:main|master|develop|HEAD"
            r"|latest)\b"
        ),
        hints=("uses",),
        strings=True,
    ),
    _code(
        "actions-unsafe-commands",
        "medium",
        _WORKFLOW_FILE,
        77,
        "Commands that were switched off for safety are switched on",
        why="Output of a step can set variables of later steps.",
        fix="Write to $GITHUB_ENV and $GITHUB_PATH.",
        pattern=r"ACTIONS_ALLOW_UNSECURE_COMMANDS\s{0,4}:\s{0,4}[\"']?true",
        hints=("ACTIONS_ALLOW_UNSECURE_COMMANDS",),
    ),
)

PYTHON = (
    _python(
        "python-eval",
        "medium",
        95,
        "eval or exec on computed text",
        why="Text that others can influence becomes code.",
        fix="Parse data with json or ast.literal_eval, or call functions from a table.",
        pattern=r"(?<![\w.])(?:builtins\.)?(?:eval|exec)\s{0,4}\(\s{0,80}(?!['\"][^'\"\n]{0,200}['\"]\s{0,4}[,)])",
        hints=("eval", "exec"),
    ),
    _python(
        "python-shell",
        "high",
        78,
        "A shell runs computed text",
        why="Quotes and semicolons in the text become commands.",
        fix="Pass a list of arguments and no shell=True; shlex.quote where a shell must be.",
        pattern=(
            r"shell\s{0,4}=\s{0,4}+(?!False|shell\b)|\b(?:system|popen|popen2|getoutput|getstatusoutput"
            r"|create_subprocess_shell)\s{0,4}\(\s{0,80}+(?!\))"
            r"|\bimport\b[^\n]{0,200}\b(?:system|popen|getoutput|getstatusoutput|create_subprocess_shell)\b"
        ),
        hints=("shell", "system", "popen", "getoutput", "getstatusoutput"),
    ),
    _python(
        "python-deserialise",
        "medium",
        502,
        "Objects are read from data that can hold code",
        why="Crafted bytes run code while they are read.",
        fix="Use json, or check a signature before you read.",
        pattern=r"\b(?:loads?|Unpickler|open|decode|read_pickle)\s{0,4}\(|\bimport\b[^\n]{0,200}\b(?:loads?|Unpickler)\b",
        hints=("pickle", "marshal", "dill", "shelve", "joblib", "torch.load", "allow_pickle"),
    ),
    _python(
        "python-yaml-load",
        "high",
        502,
        "yaml.load with a loader that makes any object",
        why="A crafted document runs code while it is read.",
        fix="Use yaml.safe_load.",
        pattern=r"\b(?:unsafe_|full_)?load(?:_all)?\s{0,4}\(|\bimport\s[^\n]{0,80}\bload",
        hints=("yaml",),
    ),
    _python(
        "python-temporary-name",
        "medium",
        377,
        "tempfile.mktemp gives a name that somebody else can take first",
        why="Between name and opening the file can be replaced.",
        fix="Use tempfile.mkstemp or NamedTemporaryFile.",
        pattern=r"mktemp",
        hints=("mktemp",),
    ),
    _python(
        "python-password-hash",
        "medium",
        916,
        "A fast hash of a password",
        why="Fast hashes can be guessed at by the billion.",
        fix="Use hashlib.scrypt, argon2 or bcrypt with a salt.",
        pattern=r"(?i)passw|pwd|passphrase",
        hints=("hashlib",),
    ),
    _python(
        "python-tls-off",
        "medium",
        295,
        "TLS certificates or host keys are not checked",
        why="Anyone on the way can read and change what is sent.",
        fix="Trust the right CA (verify=PATH, cafile=) instead.",
        pattern=(
            r"(?:verify|verify_ssl|ssl)\s{0,4}=\s{0,4}False|CERT_NONE|_create_(?:unverified|stdlib)_context"
            r"|AutoAddPolicy|WarningPolicy"
        ),
        hints=("verify", "CERT_NONE", "_context", "ssl", "AutoAddPolicy", "WarningPolicy"),
    ),
    _python(
        "python-sql",
        "high",
        89,
        "SQL is built from computed text",
        why="A value that holds a quote changes the statement.",
        fix="Use placeholders and pass the values separately.",
        pattern=(
            r"(?:execute\w{0,10}|raw|read_sql\w{0,10}|fetch\w{0,6}"
            r"|text)\s{0,4}\(\s{0,200}+(?:[\w.]{0,40}text\(\s{0,200}+)?\(?\s{0,200}+[fFrRbB]{0,2}[\"']"
        ),
        hints=(".execute", ".raw(", "read_sql", ".fetch", "text("),
    ),
    _python(
        "python-unpack",
        "medium",
        22,
        "A tar archive is unpacked without a filter",
        why="Names such as ../../x and links leave the folder (before Python 3.14).",
        fix='Pass filter="data".',
        pattern=r"\.extract(?:all)?\s{0,4}\(|unpack_archive",
        hints=("tarfile", "unpack_archive"),
    ),
    _python(
        "python-debug-server",
        "medium",
        489,
        "A web server in debug mode",
        why="The debugger runs code for whoever reaches the page.",
        fix="Read debug from the configuration, off by default.",
        pattern=r"debug\s{0,4}=\s{0,4}True",
        hints=("debug",),
    ),
    _python(
        "python-weak-random",
        "medium",
        338,
        "random makes a secret",
        why="Its output can be predicted from earlier values.",
        fix="Use secrets.",
        pattern=r"(?i)token|passw|pwd|secret|nonce|session_?id|api_?key|otp|salt|passphrase|csrf|reset_code|auth_?code",
        hints=("random.rand", "random.choice", "random.sample", "random.getrandbits", "random.shuffle", "from random import"),
    ),
    _python(
        "python-jwt-unverified",
        "high",
        347,
        "A JSON Web Token is read without its signature",
        why="Anybody can write such a token.",
        fix="Verify it with the key and a fixed list of algorithms.",
        pattern=r"\bdecode\s{0,4}\(",
        hints=("jwt",),
    ),
    _python(
        "python-weak-cipher",
        "medium",
        327,
        "A weak cipher or mode",
        why="DES and RC4 can be broken; ECB shows which blocks are equal.",
        fix="Use AES-GCM or ChaCha20-Poly1305.",
        pattern=r"Crypto|cryptography",
        hints=("DES", "ARC4", "ARC2", "ECB", "Blowfish", "IDEA"),
    ),
    _python(
        "python-world-writable",
        "low",
        732,
        "Everybody may write to it",
        why="Any user or process can replace the content.",
        fix="Give the narrowest mode that works.",
        pattern=r"chmod\s{0,4}\(",
        hints=("chmod",),
    ),
)
