# Redis, with what it acknowledges on the disk. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[redis]=redis-server
has_redis() { has redis-server; }

configure_redis() {
  write_as_server "$home/redis.conf" <<CONF
bind 127.0.0.1
port $port
dir "$home"
save ""
appendonly yes
appendfsync always
CONF
}

command_redis() { printf '%s\n' "$(command -v redis-server)" "$home/redis.conf"; }
ready_redis() { said 'Ready to accept connections'; }
env_redis() { printf 'RIVERGATE_TEST_REDIS_ADDR=127.0.0.1:%s\n' "$port"; }
