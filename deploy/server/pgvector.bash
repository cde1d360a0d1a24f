# pgvector, an extension of the PostgreSQL server that is here; nothing is started. Read by deploy/services.
# shellcheck disable=SC2154 # root is set on the other side

readonly pgvector_version=v0.8.5

# has_pgvector: a version of 0.8 or newer, which goes on searching where a filter leaves too few.
has_pgvector() {
  local control
  control=$("$(pg_config_of_server)" --sharedir 2>/dev/null)/extension/vector.control || return 1
  [[ -r $control ]] && grep -qE "^default_version = '(0\.([89]|[1-9][0-9])|[1-9])" "$control"
}

# pg_config_of_server prints the pg_config that belongs to the newest server.
pg_config_of_server() {
  local programs
  programs=$(postgres_bin) && [[ -x $programs/pg_config ]] && printf '%s' "$programs/pg_config"
}

# get_pgvector compiles it for the server: Debian 12 has no package, and Ubuntu 24.04 an older version. The Go proxy serves its
# repository, though it holds no Go, and go checks its sum.
get_pgvector() {
  local config source build=$root/.cache/pgvector-$pgvector_version missing=()
  installed postgres || install_packages "${package[postgres]}" || return 1
  config=$(pg_config_of_server) || config=
  # the headers; Debian names the package after the server's version
  if [[ -z $config || ! -r $("$config" --includedir-server)/postgres.h ]]; then
    missing+=("postgresql-server-dev-$(basename "$(dirname "$(postgres_bin)")")")
  fi
  has make || missing+=(make)
  has gcc || has cc || missing+=(gcc libc6-dev)
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}" || return 1
  config=$(pg_config_of_server) || { say "no pg_config beside $(postgres_bin)/postgres"; return 1; }
  has go || { say "cannot fetch pgvector without go"; return 1; }
  say "compiling pgvector $pgvector_version for $("$config" --version)"
  mkdir -p "$root/.cache"
  source=$(cd "$root/.cache" && GOFLAGS='' GOWORK=off go mod download -json "github.com/pgvector/pgvector@$pgvector_version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [[ -d $source ]] || { say "pgvector $pgvector_version could not be fetched"; return 1; }
  rm -rf -- "$build"
  cp -r -- "$source" "$build" && chmod -R u+w "$build" || return 1
  # OPTFLAGS: not for this processor alone. with_llvm: its bitcode would need clang.
  make -s -C "$build" PG_CONFIG="$config" OPTFLAGS='' with_llvm=no >"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log" >&2; return 1; }
  local -a sudo=()
  if [[ ! -w $("$config" --pkglibdir) ]]; then
    if has sudo && sudo -n true 2>/dev/null; then sudo=(sudo -n); else
      say "cannot install pgvector as this user: run as root: make -C $build PG_CONFIG=$config with_llvm=no install"
      return 1
    fi
  fi
  "${sudo[@]}" make -s -C "$build" PG_CONFIG="$config" OPTFLAGS='' with_llvm=no install >>"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log" >&2; return 1; }
}
