# PgBouncer in front of the same folder's PostgreSQL, whose password it shares. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[pgbouncer]=pgbouncer
has_pgbouncer() { has pgbouncer; }

prepare_pgbouncer() {
  secret=$(<"$(<"$dir/state/postgres.home")/secret")
  printf '%s' "$secret" | write_as_server "$home/secret"
  printf '"rivergate" "%s"\n' "$secret" | write_as_server "$home/users.txt"
}

configure_pgbouncer() {
  write_as_server "$home/pgbouncer.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$(<"$dir/state/postgres.port")
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $home/users.txt
admin_users = rivergate
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
ignore_startup_parameters = extra_float_digits
CONF
}

command_pgbouncer() { printf '%s\n' "$(command -v pgbouncer)" "$home/pgbouncer.ini"; }
ready_pgbouncer() { said 'process up'; }

env_pgbouncer() {
  printf 'RIVERGATE_TEST_PGBOUNCER_DSN=postgres://rivergate:%s@127.0.0.1:%s/postgres?sslmode=disable\n' "$secret" "$port"
}
