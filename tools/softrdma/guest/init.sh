#!/bin/sh
# First program of the kernel: lays out the file system, makes the RDMA devices, becomes the agent.
# SOFTRDMA_CONFIG (from the kernel command line) names a shell file written by guest-config.ts. It sets
#   HELPER HOSTNAME MHZ             the agent's program, host name, the host's clock rate
#   RXE_NET SIW_NET                 "dummy", or the name of the cable's netdev
#   RXE_ADDR SIW_ADDR RXE_ADDR6 SIW_ADDR6 RXE_MAC SIW_MAC
#   and a function make_root() that has the helper make the root file system at $root.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
. "$SOFTRDMA_CONFIG"

root=/dev/shm/root
make_root
cat "${0%/*}/link.sh" >"$root/usr/local/bin/softrdma-link"
chmod 755 "$root/usr/local/bin/softrdma-link"

# perftest refuses to report without a clock rate, and this kernel's /proc/cpuinfo has none.
while IFS= read -r line; do
  printf '%s\n' "$line"
  case $line in processor*) printf 'cpu MHz\t\t: %s\n' "$MHZ" ;; esac
done <"$root/proc/cpuinfo" >"$root/run/softrdma/cpuinfo"
mount --bind "$root/run/softrdma/cpuinfo" "$root/proc/cpuinfo"
echo "$HOSTNAME" >"$root/proc/sys/kernel/hostname"

# Addresses are usable at once and survive a link that goes down.
echo 0 >"$root/proc/sys/net/ipv6/conf/default/accept_dad"
echo 1 >"$root/proc/sys/net/ipv6/conf/default/keep_addr_on_down"
# A cable's bridge hears the question for the address of the device behind it, and must not answer.
echo 1 >"$root/proc/sys/net/ipv4/conf/all/arp_ignore"
echo '0 2147483647' >"$root/proc/sys/net/ipv4/ping_group_range"

# One RDMA device per netdev: rdma_cm mistakes one for the other where two share one.
# A cable is behind a bridge: the driver of vecN closes its end for good when it is set down, and has no carrier to lose.
netdev() { # cable netdev mac address address6
  if [ "$1" = dummy ]; then
    echo "link add $2 type dummy"
  else
    echo "link add $2 type veth peer name $2-port"
    echo "link add $2-br type bridge"
    echo "link set $1 mtu 9000 master $2-br addrgenmode none up"
    echo "link set $2-port mtu 9000 master $2-br addrgenmode none up"
    echo "link set $2-br mtu 9000 addrgenmode none up"
  fi
  echo "link set $2 address $3 mtu 9000 up"
  echo "addr add $4/24 dev $2"
  echo "addr add $5/64 dev $2 nodad"
}
{
  echo "link set lo up"
  netdev "$RXE_NET" rxe-net "$RXE_MAC" "$RXE_ADDR" "$RXE_ADDR6"
  netdev "$SIW_NET" siw-net "$SIW_MAC" "$SIW_ADDR" "$SIW_ADDR6"
} | ip -batch -
rdma -b - <<DEVICES
link add rxe0 type rxe netdev rxe-net
link add siw0 type siw netdev siw-net
DEVICES

exec "$HELPER" agent "$root" /dev/ttyS0
