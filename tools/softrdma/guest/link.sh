#!/bin/sh
# softrdma-link DEVICE down | up | clear | [loss PERCENT] [delay TIME]
# Faults of the cable that an RDMA device of this machine is on.
set -u
fail() {
  echo "softrdma-link: $*" >&2
  exit 2
}
[ $# -ge 2 ] || fail "give a device and a fault: rxe0|siw0 down | up | clear | [loss PERCENT] [delay TIME]"
device=$1
shift
case $device in
rxe0) net=rxe-net address=10.0.1. address6=fd00:1:: ;;
siw0) net=siw-net address=10.0.2. address6=fd00:2:: ;;
*) fail "there is no device $device; there are rxe0 and siw0" ;;
esac
[ -e "/sys/class/net/$net" ] || fail "this is not a softrdma machine: it has no netdev $net"

# What takes the carrier away, as pulling the cable would; addresses and routes stay.
carrier() {
  if [ -e "/sys/class/net/$net-port" ]; then
    case $1 in on) ip link set "$net-port" up ;; off) ip link set "$net-port" down ;; esac
  else
    ip link set "$net" carrier "$1"
  fi
}

case $1 in
down | up | clear)
  [ $# -eq 1 ] || fail "nothing may follow $1"
  if [ "$1" = clear ]; then
    tc qdisc del dev "$net" root 2>/dev/null
    [ "$device" = siw0 ] && tc qdisc del dev lo root 2>/dev/null
  fi
  case $1 in down) carrier off ;; *) carrier on ;; esac
  exit
  ;;
esac

netem=
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || fail "$1 takes a value: loss 5, delay 20ms"
  case $1 in
  loss)
    percent=${2%\%}
    echo "$percent" | grep -Eq '^([0-9]{1,2}(\.[0-9]+)?|100)$' || fail "loss is $2; give a percentage from 0 to 100"
    netem="$netem loss $percent%"
    ;;
  delay)
    time=$2
    echo "$time" | grep -Eq '^[0-9]+(\.[0-9]+)?(us|ms|s)?$' || fail "delay is $2; give a time, as in 20ms or 500us"
    case $time in *s) ;; *) time=${time}ms ;; esac
    netem="$netem delay $time"
    ;;
  *) fail "there is no fault $1; there are down, up, clear, loss and delay" ;;
  esac
  shift 2
done
# The default of 1000 waiting frames would turn a delay into a loss.
netem="$netem limit 100000"

if [ -e "/sys/class/net/$net-port" ]; then
  # shellcheck disable=SC2086 # words on purpose
  exec tc qdisc replace dev "$net" root netem $netem
fi
# A machine on its own talks to itself: siw through lo, rxe without any netdev.
[ "$device" = siw0 ] || fail "rxe0 of a single machine has no cable to disturb (rxe hands packets for itself straight over); use two machines, or down"
set -e
tc qdisc del dev lo root 2>/dev/null || true
tc qdisc add dev lo root handle 1: prio bands 4
# shellcheck disable=SC2086
tc qdisc add dev lo parent 1:4 netem $netem
tc filter add dev lo parent 1: protocol ip u32 match ip dst "${address}0/24" flowid 1:4
tc filter add dev lo parent 1: protocol ipv6 u32 match ip6 dst "$address6/64" flowid 1:4
