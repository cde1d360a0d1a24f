# PostgreSQL, a real one: fsync is on. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[postgres]=postgresql
has_postgres() { postgres_bin >/dev/null && has psql; }

# postgres_bin prints the folder with the newest server's programs.
postgres_bin() {
  local found newest=
  while IFS= read -r found; do
    newest=${found%/initdb}
  done < <(find /usr/lib/postgresql/*/bin -name initdb 2>/dev/null | sort -V)
  if [[ -z $newest ]] && has pg_config && [[ -x $(pg_config --bindir)/initdb ]]; then newest=$(pg_config --bindir); fi
  if [[ -z $newest ]] && has initdb; then newest=$(dirname -- "$(command -v initdb)"); fi
  [[ -n $newest && -x $newest/postgres ]] && printf '%s' "$newest"
}

prepare_postgres() {
  as_server env LC_ALL=C "$(postgres_bin)/initdb" -D "$home/data" -U rivergate -E UTF8 --locale=C --auth=scram-sha-256 \
    --pwfile="$home/secret" >"$home/initdb.log" 2>&1 || { cat "$home/initdb.log" >&2; die "initdb failed"; }
  printf "include '%s'\n" "$home/ours.conf" >>"$home/data/postgresql.conf"
}

configure_postgres() {
  local turn
  # After SIGKILL its backends end by themselves. Its own number may still be that of a process that nobody has reaped,
  # which PostgreSQL would take for a running server.
  for ((turn = 0; turn < 100; turn++)); do
    readlink /proc/[0-9]*/cwd 2>/dev/null | grep -qxF "$home/data" || break
    sleep 0.1
  done
  rm -f -- "$home/data/postmaster.pid"
  write_as_server "$home/ours.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
fsync = on
CONF
}

command_postgres() { printf '%s\n' "$(postgres_bin)/postgres" -D "$home/data"; }
ready_postgres() { said 'ready to accept connections'; }

env_postgres() {
  printf 'RIVERGATE_TEST_POSTGRES_DSN=postgres://rivergate:%s@127.0.0.1:%s/postgres?sslmode=disable\n' "$secret" "$port"
}
