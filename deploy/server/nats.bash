# NATS with JetStream on files. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[nats]=nats-server
has_nats() { has nats-server; }

configure_nats() {
  write_as_server "$home/nats.conf" <<CONF
listen: "127.0.0.1:$port"
max_payload: 1MB
jetstream { store_dir: "$home/store", max_mem: 64MB, max_file: 4GB }
authorization { user: rivergate, password: "$secret" }
CONF
}

command_nats() { printf '%s\n' "$(command -v nats-server)" -c "$home/nats.conf"; }
ready_nats() { said 'Server is ready'; }
env_nats() { printf 'RIVERGATE_TEST_NATS_URL=nats://rivergate:%s@127.0.0.1:%s\n' "$secret" "$port"; }
