#define _GNU_SOURCE
#include "clinux_net.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// One ioctl on an interface. `request` is filled in but for the name.
static int interface_ioctl(const char *name, unsigned long code, struct ifreq *request) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (strlen(name) >= IFNAMSIZ) {
    close(fd);
    return -ENODEV;
  }
  strncpy(request->ifr_name, name, IFNAMSIZ - 1);
  int error = ioctl(fd, code, request) < 0 ? -errno : 0;
  close(fd);
  return error;
}

static int ethtool(const char *name, void *command) {
  struct ifreq request = {.ifr_data = command};
  return interface_ioctl(name, SIOCETHTOOL, &request);
}

int clinux_driver_info(const char *name, clinux_driver *out) {
  struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
  int error = ethtool(name, &info);
  if (error) return error;
  memset(out, 0, sizeof *out);
  snprintf(out->driver, sizeof out->driver, "%s", info.driver);
  return 0;
}

int clinux_queues(const char *name, uint32_t *rx, uint32_t *rx_max) {
  struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
  int error = ethtool(name, &channels);
  if (error == -EOPNOTSUPP) {
    *rx = *rx_max = 1;
    return 0;
  }
  if (error) return error;
  *rx = channels.rx_count + channels.combined_count;
  *rx_max = channels.max_rx + channels.max_combined;
  if (*rx == 0) *rx = 1;
  if (*rx_max < *rx) *rx_max = *rx;
  return 0;
}

// linux/netdev.h came with Linux 6.3.
enum { netdev_dev_get = 1, netdev_ifindex = 1, netdev_xdp_features = 3 };

// One question by generic netlink, with one attribute, and the attribute `wanted` of the answer. 0 or -errno.
static int ask_netlink(
    int fd, uint16_t family, uint8_t command, uint16_t attribute, const void *value, uint16_t length, uint16_t wanted, void *out,
    size_t size) {
  struct {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    struct nlattr attribute;
    char value[64];
  } request = {
      .header = {.nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST},
      .generic = {.cmd = command, .version = 1},
      .attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = attribute}};
  if (length > sizeof request.value) return -EINVAL;
  memcpy(request.value, value, length);
  request.header.nlmsg_len = (uint32_t)(offsetof(__typeof__(request), value) + NLA_ALIGN(length));
  if (send(fd, &request, request.header.nlmsg_len, 0) < 0) return -errno;
  _Alignas(struct nlmsghdr) char answer[8192];
  ssize_t got = recv(fd, answer, sizeof answer, 0);
  if (got < 0) return -errno;
  const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
  if (!NLMSG_OK(header, (size_t)got)) return -EBADMSG;
  if (header->nlmsg_type == NLMSG_ERROR)
    return header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)) ? -EBADMSG : ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
  size_t at = NLMSG_LENGTH(GENL_HDRLEN), end = header->nlmsg_len;
  while (at + NLA_HDRLEN <= end) {
    const struct nlattr *found = (const struct nlattr *)(answer + at);
    if (found->nla_len < NLA_HDRLEN || at + found->nla_len > end) return -EBADMSG;
    if ((found->nla_type & NLA_TYPE_MASK) == wanted) {
      if (found->nla_len - NLA_HDRLEN < (int)size) return -EBADMSG;
      memcpy(out, answer + at + NLA_HDRLEN, size);
      return 0;
    }
    at += NLA_ALIGN(found->nla_len);
  }
  return -ENOENT;
}

int clinux_xdp_features(int ifindex, uint64_t *features) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
  if (fd < 0) return -errno;
  uint16_t family = 0;
  uint32_t index = (uint32_t)ifindex;
  int error = ask_netlink(
      fd, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "netdev", sizeof "netdev", CTRL_ATTR_FAMILY_ID, &family, sizeof family);
  if (!error)
    error = ask_netlink(
        fd, family, netdev_dev_get, netdev_ifindex, &index, sizeof index, netdev_xdp_features, features, sizeof *features);
  close(fd);
  return error;
}

// Features are bits in an order that only the kernel knows: it tells their names.
static int feature_bit(const char *name, const char *feature) {
  union {
    struct ethtool_sset_info header;
    uint64_t room[4];
  } set = {.header = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_FEATURES}};
  int error = ethtool(name, &set);
  if (error) return error;
  uint32_t count = set.header.sset_mask ? set.header.data[0] : 0;
  if (count == 0 || count > 1024) return -EOPNOTSUPP;
  struct ethtool_gstrings *strings = calloc(1, sizeof *strings + count * ETH_GSTRING_LEN);
  if (!strings) return -ENOMEM;
  strings->cmd = ETHTOOL_GSTRINGS;
  strings->string_set = ETH_SS_FEATURES;
  strings->len = count;
  int bit = ethtool(name, strings);
  if (bit == 0) {
    bit = -EOPNOTSUPP;
    for (uint32_t i = 0; i < count; i++)
      if (strncmp((const char *)strings->data + i * ETH_GSTRING_LEN, feature, ETH_GSTRING_LEN) == 0) bit = (int)i;
  }
  free(strings);
  return bit;
}

enum { feature_blocks = 32 };  // 1024 features

// The kernel's structures end in arrays of no length; this is their room.
union get_features {
  struct ethtool_gfeatures header;
  uint32_t room[2 + feature_blocks * sizeof(struct ethtool_get_features_block) / 4];
};
union set_features {
  struct ethtool_sfeatures header;
  uint32_t room[2 + feature_blocks * sizeof(struct ethtool_set_features_block) / 4];
};

int clinux_feature_get(const char *name, const char *feature, bool *on) {
  int bit = feature_bit(name, feature);
  if (bit < 0) return bit;
  union get_features all = {.header = {.cmd = ETHTOOL_GFEATURES, .size = feature_blocks}};
  int error = ethtool(name, &all);
  if (error) return error;
  *on = (all.header.features[bit / 32].active >> (bit % 32)) & 1;
  return 0;
}

int clinux_feature_set(const char *name, const char *feature, bool on) {
  int bit = feature_bit(name, feature);
  if (bit < 0) return bit;
  union get_features all = {.header = {.cmd = ETHTOOL_GFEATURES, .size = feature_blocks}};
  int error = ethtool(name, &all);
  if (error) return error;
  union set_features change = {.header = {.cmd = ETHTOOL_SFEATURES, .size = all.header.size}};
  change.header.features[bit / 32].valid = 1U << (bit % 32);
  change.header.features[bit / 32].requested = on ? 1U << (bit % 32) : 0;
  error = ethtool(name, &change);
  // A positive answer says that not all was granted; who asks again learns what was.
  return error < 0 ? error : 0;
}

int clinux_flags(const char *name, uint32_t *flags) {
  struct ifreq request = {0};
  int error = interface_ioctl(name, SIOCGIFFLAGS, &request);
  *flags = (uint16_t)request.ifr_flags;
  return error;
}

static int set_flag(const char *name, int flag, bool on) {
  struct ifreq request = {0};
  int error = interface_ioctl(name, SIOCGIFFLAGS, &request);
  if (error) return error;
  if (on)
    request.ifr_flags |= flag;
  else
    request.ifr_flags &= ~flag;
  return interface_ioctl(name, SIOCSIFFLAGS, &request);
}

int clinux_set_up(const char *name, bool up) { return set_flag(name, IFF_UP, up); }

int clinux_set_promiscuous(const char *name, bool on) { return set_flag(name, IFF_PROMISC, on); }

int clinux_mtu(const char *name, uint32_t *mtu) {
  struct ifreq request = {0};
  int error = interface_ioctl(name, SIOCGIFMTU, &request);
  *mtu = (uint32_t)request.ifr_mtu;
  return error;
}

int clinux_mac(const char *name, uint8_t mac[6], uint16_t *hardware_type) {
  struct ifreq request = {0};
  int error = interface_ioctl(name, SIOCGIFHWADDR, &request);
  memcpy(mac, request.ifr_hwaddr.sa_data, 6);
  *hardware_type = request.ifr_hwaddr.sa_family;
  return error;
}

int clinux_promiscuous(int ifindex) {
  // Protocol 0: the socket itself receives nothing.
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct packet_mreq membership = {.mr_ifindex = ifindex, .mr_type = PACKET_MR_PROMISC};
  if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

int clinux_sender(int ifindex) {
  // Protocol 0: it receives nothing.
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = ifindex};
  int one = 1;
  // Without it each frame goes through the queueing discipline, which is fine as well.
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}

int clinux_send_frames(int fd, struct iovec *frames, int count) {
  struct mmsghdr messages[64];
  if (count > 64) count = 64;
  memset(messages, 0, sizeof messages[0] * count);
  for (int i = 0; i < count; i++) {
    messages[i].msg_hdr.msg_iov = frames + i;
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int sent = sendmmsg(fd, messages, count, MSG_DONTWAIT);
  return sent < 0 ? -errno : sent;
}

int clinux_pin_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

int clinux_keep_thread_to(const int *cpus, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < count; i++) CPU_SET(cpus[i], &set);
  return sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

int clinux_set_nice(int nice) { return setpriority(PRIO_PROCESS, (id_t)clinux_thread_id(), nice) < 0 ? -errno : 0; }

int clinux_allowed_cpus(int *cpus, int capacity) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < capacity; cpu++)
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  return count;
}

void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int clinux_thread_id(void) { return (int)syscall(SYS_gettid); }

int clinux_wakeup(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int clinux_signals(const void *signal_set) { return signalfd(-1, signal_set, SFD_CLOEXEC | SFD_NONBLOCK); }

int clinux_next_signal(int descriptor) {
  struct signalfd_siginfo info;
  return read(descriptor, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

void clinux_release_memory(void) { malloc_trim(0); }

const char *clinux_errno_name(int code) {
  const char *name = strerrorname_np(code);
  if (name) return name;
  static _Thread_local char unknown[24];
  snprintf(unknown, sizeof unknown, "errno %d", code);
  return unknown;
}

int clinux_has_capability(int capability) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {0};
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  return (data[capability / 32].effective >> (capability % 32)) & 1;
}

int clinux_keep_capabilities(uint64_t keep) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno;
  // Without CAP_SETPCAP the bounding set stays; nothing can be gained from it any more.
  for (int capability = 0; capability < 64; capability++)
    if (!(keep >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) break;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  if (syscall(SYS_capget, &header, data) < 0) return -errno;
  for (int i = 0; i < 2; i++) {
    data[i].permitted &= (uint32_t)(keep >> 32 * i);
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int clinux_confine_worker(void) {
  static const int allowed[] = {
      // Frames: kicks of the rings. Waiting, being woken, telling the time where the vDSO cannot.
      SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(read), SCMP_SYS(clock_gettime),
      SCMP_SYS(sched_yield), SCMP_SYS(futex), SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
      // The end of the thread, and the memory it gives back; the message of a failed precondition.
      SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(madvise), SCMP_SYS(munmap), SCMP_SYS(write), SCMP_SYS(tgkill), SCMP_SYS(getpid),
      SCMP_SYS(gettid),
  };
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (!filter) return -ENOMEM;
  int error = 0;
  for (unsigned i = 0; i < sizeof allowed / sizeof *allowed && !error; i++)
    error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
  // For this thread alone: the control side loads programs and opens files.
  if (!error) error = seccomp_load(filter);
  seccomp_release(filter);
  return error;
}

int clinux_follow_first_thread(void) {
  cpu_set_t set;
  return sched_getaffinity(getpid(), sizeof set, &set) < 0 || sched_setaffinity(0, sizeof set, &set) < 0 ? -errno : 0;
}

int clinux_finish_output(void) {
  int before = ferror(stdout);
  if (fflush(stdout)) return errno ? -errno : -EIO;
  return before ? -EIO : 0;
}

int64_t clinux_peer_user(int fd) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ? -1 : (int64_t)peer.uid;
}
