# MariaDB, with what it acknowledges on the disk. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[mysql]=mariadb-server
has_mysql() { has mariadbd && has mariadb-install-db && has mariadb-admin; }

prepare_mysql() {
  mkdir "$home/data"
  [[ -z $server_user ]] || chown "$server_user" "$home/data"
  as_server env TMPDIR="$home/data" mariadb-install-db --no-defaults --datadir="$home/data" --auth-root-authentication-method=normal --skip-test-db \
    >"$home/install.log" 2>&1 || { cat "$home/install.log" >&2; die "mariadb-install-db failed"; }
}

configure_mysql() {
  write_as_server "$home/init.sql" <<SQL
CREATE DATABASE IF NOT EXISTS rivergate CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS rivergate@'127.0.0.1' IDENTIFIED BY '$secret';
GRANT ALL PRIVILEGES ON *.* TO rivergate@'127.0.0.1' WITH GRANT OPTION;
SQL
  write_as_server "$home/my.cnf" <<CONF
[mariadbd]
datadir = $home/data
tmpdir = $home/data
port = $port
bind-address = 127.0.0.1
socket = $home/socket
pid-file = $home/data/pid
init-file = $home/init.sql
skip-name-resolve
innodb_flush_log_at_trx_commit = 1
innodb_buffer_pool_size = 128M
max_connections = 200
CONF
}

command_mysql() { printf '%s\n' "$(command -v mariadbd)" "--defaults-file=$home/my.cnf"; }
ready_mysql() { said 'ready for connections' && MYSQL_PWD=$secret mariadb-admin --no-defaults -h 127.0.0.1 -P "$port" -u rivergate ping >/dev/null; }
env_mysql() { printf 'RIVERGATE_TEST_MYSQL_DSN=rivergate:%s@tcp(127.0.0.1:%s)/rivergate\n' "$secret" "$port"; }
