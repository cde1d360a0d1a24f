# RabbitMQ, one node with a name, a folder and an epmd of its own. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[rabbitmq]=rabbitmq-server
has_rabbitmq() { [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] && has epmd; }

configure_rabbitmq() {
  write_as_server "$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$port
load_definitions = $home/definitions.json
max_message_size = 1048576
log.file = false
log.console = true
log.console.level = info
CONF
  # Beside the user that may do everything one that may hardly do anything: write to exchanges that are called may-…, and to
  # may-topic under routing keys that begin with "free." alone.
  write_as_server "$home/definitions.json" <<JSON
{
  "vhosts": [{"name": "/"}],
  "users": [
    {"name": "rivergate", "password": "$secret", "tags": "administrator"},
    {"name": "limited", "password": "$secret", "tags": ""}
  ],
  "permissions": [
    {"user": "rivergate", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
    {"user": "limited", "vhost": "/", "configure": "^$", "write": "^may-", "read": "^$"}
  ],
  "topic_permissions": [{"user": "limited", "vhost": "/", "exchange": "may-topic", "write": "^free[.]", "read": "^$"}]
}
JSON
  printf '[].\n' | write_as_server "$home/plugins"
  [[ -s $home/epmd.port ]] || { free_port >"$home/epmd.port"; free_port >"$home/dist.port"; }
  # epmd in the foreground and in our session: the node finds it there and starts none that would outlive it.
  write_as_server "$home/run" <<RUN
export RABBITMQ_MNESIA_BASE=$home/mnesia RABBITMQ_LOG_BASE=$home/log RABBITMQ_CONFIG_FILE=$home/rabbitmq.conf
export RABBITMQ_ENABLED_PLUGINS_FILE=$home/plugins RABBITMQ_PID_FILE=$home/node.pid
export RABBITMQ_NODENAME=rivergate-$(<"$home/epmd.port")@localhost
export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$(<"$home/epmd.port") RABBITMQ_DIST_PORT=$(<"$home/dist.port")
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
epmd &
exec /usr/lib/rabbitmq/bin/rabbitmq-server
RUN
}

command_rabbitmq() { printf '%s\n' /bin/sh "$home/run"; }
ready_rabbitmq() { said 'Server startup complete'; }
env_rabbitmq() {
  printf 'RIVERGATE_TEST_AMQP_URL=amqp://rivergate:%s@127.0.0.1:%s/\n' "$secret" "$port"
  [[ ! -s $home/definitions.json ]] || printf 'RIVERGATE_TEST_AMQP_LIMITED_URL=amqp://limited:%s@127.0.0.1:%s/\n' "$secret" "$port"
}
