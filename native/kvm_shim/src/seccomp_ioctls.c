/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of ioctl(): each request by its number. */
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sockios.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "seccomp_rules.h"

static const kvmshim_seccomp_rule rules[] = {
    /* ---- KVM: the guest runs ---------------------------------------------------- */
    IOCTL(KVM_RUN, VCPU, "the guest"),
    IOCTL(KVM_NMI, CONTROL | VCPU, "an NMI into the guest"),
    IOCTL(KVM_GET_REGS, VCPU, "the registers of a guest that failed"),
    IOCTL(KVM_GET_SREGS, CONTROL | VCPU, "the same; and of a new vCPU"),
    IOCTL(KVM_IRQ_LINE, CONTROL | VCPU | LINE, "an interrupt of the serial port"),
    IOCTL(KVM_IRQFD, CONTROL | VCPU, "which eventfd is which interrupt"),
    IOCTL(KVM_IOEVENTFD, CONTROL | VCPU, "which doorbell is which eventfd"),
    IOCTL(KVM_SET_GSI_ROUTING, VCPU, "which interrupt is which message"),
    IOCTL(KVM_KVMCLOCK_CTRL, CONTROL, "a paused guest is told so"),

    /* ---- KVM: the machine is built ---------------------------------------------- */
    IOCTL(KVM_GET_API_VERSION, CONTROL, "whether it is KVM"),
    IOCTL(KVM_CREATE_VM, CONTROL, "a VM"),
    IOCTL(KVM_CHECK_EXTENSION, CONTROL, "what this KVM can do"),
    IOCTL(KVM_GET_VCPU_MMAP_SIZE, CONTROL, "the size of struct kvm_run"),
    IOCTL(KVM_GET_SUPPORTED_CPUID, CONTROL, "the CPU that a guest can have"),
    IOCTL(KVM_CREATE_VCPU, CONTROL, "a vCPU"),
    IOCTL(KVM_SET_TSS_ADDR, CONTROL, "where KVM may put pages of its own"),
    IOCTL(KVM_SET_IDENTITY_MAP_ADDR, CONTROL, "the same"),
    IOCTL(KVM_CREATE_IRQCHIP, CONTROL, "interrupt controllers"),
    IOCTL(KVM_SET_USER_MEMORY_REGION, CONTROL, "guest RAM"),
    IOCTL(KVM_SET_SIGNAL_MASK, CONTROL, "the signal that ends KVM_RUN is let in there only"),
    IOCTL(KVM_SET_CPUID2, CONTROL, "the CPU of the guest"),
    IOCTL(KVM_GET_LAPIC, CONTROL, "local interrupts"),
    IOCTL(KVM_SET_LAPIC, CONTROL, "local interrupts"),
    IOCTL(KVM_SET_MSRS, CONTROL, "how a vCPU starts"),
    IOCTL(KVM_SET_FPU, CONTROL, "the same"),
    IOCTL(KVM_SET_SREGS, CONTROL, "the same"),
    IOCTL(KVM_SET_REGS, CONTROL, "the same"),

    /* ---- terminals -------------------------------------------------------------- */
    IOCTL(TCGETS, CONTROL | LINE, "the modes of a terminal; whether it is one"),
    IOCTL(TCSETS, CONTROL | LINE, "raw, and at the end as it was"),
    IOCTL(TIOCGPGRP, CONTROL, "whether we are in the background"),
    IOCTL(TIOCGWINSZ, CONTROL | LINE, "the size of its window"),
    IOCTL(TIOCGPTN, CONTROL, "the number of a pty"),
    IOCTL(TIOCSPTLCK, CONTROL, "others may open it"),
    IOCTL(TIOCGPTPEER, CONTROL, "its other end"),

    /* ---- files and sockets ------------------------------------------------------ */
    IOCTL(FIOCLEX, CONTROL, "no descriptor is inherited"),
    IOCTL(FIONBIO, CONTROL, "Python's sockets"),
    IOCTL(BLKGETSIZE64, CONTROL, "the size of a disk that is a block device", SEEN(RARELY)),
    IOCTL(BLKSSZGET, CONTROL, "its sectors", SEEN(RARELY)),
    IOCTL(BLKPBSZGET, CONTROL, "its blocks", SEEN(RARELY)),
    IOCTL(BLKIOOPT, CONTROL, "how much it likes at a time", SEEN(RARELY)),

    /* ---- taps ------------------------------------------------------------------- */
    IOCTL(TUNSETIFF, CONTROL, "a tap's queue", SEEN(TAP)),
    IOCTL(TUNGETIFF, CONTROL, "what it is", SEEN(TAP)),
    IOCTL(TUNSETVNETHDRSZ, CONTROL, "the header before each frame", SEEN(TAP)),
    IOCTL(TUNSETOFFLOAD, CONTROL | VCPU, "what the guest takes off the host", SEEN(TAP)),
    IOCTL(TUNSETOFFLOAD, NET, "the same, at run time", SEEN(LINUX)),
    IOCTL(TUNSETQUEUE, CONTROL | VCPU | NET, "how many queues the guest uses", SEEN(LINUX)),
    IOCTL(SIOCGIFINDEX, CONTROL, "whether an interface is there", SEEN(TAP)),
    IOCTL(SIOCGIFFLAGS, CONTROL, "whether it is up", SEEN(TAP)),
    IOCTL(SIOCSIFFLAGS, CONTROL, "it is to be up", SEEN(TAP)),
    IOCTL(SIOCGIFADDR, CONTROL, "its IPv4 address", SEEN(TAP)),
    IOCTL(SIOCSIFADDR, CONTROL, "its address", SEEN(TAP)),
    IOCTL(SIOCGIFNETMASK, CONTROL, "the netmask of one that is there already", SEEN(RARELY)),
    IOCTL(SIOCSIFNETMASK, CONTROL, "its netmask", SEEN(TAP)),
    IOCTL(SIOCGIFMTU, CONTROL, "its longest packet", SEEN(TAP)),
    IOCTL(SIOCSIFMTU, CONTROL, "its longest packet", SEEN(TAP)),
    IOCTL(SIOCGIFHWADDR, CONTROL, "its MAC address", SEEN(TAP)),
    IOCTL(SIOCSIFHWADDR, CONTROL, "its MAC address", SEEN(TAP)),
    IOCTL(SIOCETHTOOL, CONTROL, "whether another process serves that", SEEN(RARELY)),

    /* ---- vhost-net -------------------------------------------------------------- */
    IOCTL(VHOST_SET_OWNER, CONTROL, "the kernel's worker is ours", SEEN(VHOST)),
    IOCTL(VHOST_GET_FEATURES, CONTROL, "what it can do", SEEN(VHOST)),
    IOCTL(VHOST_SET_FEATURES, CONTROL | VCPU | NET, "what the guest uses of it", SEEN(VHOST)),
    IOCTL(VHOST_SET_MEM_TABLE, CONTROL | VCPU | NET, "guest RAM", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_NUM, CONTROL | VCPU | NET, "a ring: its size", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_BASE, CONTROL | VCPU | NET, "where it begins", SEEN(VHOST)),
    IOCTL(VHOST_GET_VRING_BASE, CONTROL | VCPU | NET, "where it stopped", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_ADDR, CONTROL | VCPU | NET, "where it is", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_KICK, CONTROL | VCPU | NET, "its doorbell", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_CALL, CONTROL | VCPU | NET, "its interrupt", SEEN(VHOST)),
    IOCTL(VHOST_SET_VRING_ERR, CONTROL | VCPU | NET, "its failure", SEEN(VHOST)),
    IOCTL(VHOST_NET_SET_BACKEND, CONTROL | VCPU | NET, "its tap, or none", SEEN(VHOST)),
};

const struct seccomp_rules seccomp_ioctls = {rules, sizeof(rules) / sizeof(rules[0])};
