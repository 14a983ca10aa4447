/* SPDX-License-Identifier: Apache-2.0 */
/* The ioctls of a tap. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "error.h"
#include "virtio_net.h"

static int tap_ioctl(int tap, unsigned long request, void *argument)
{
    int rc;

    do
        rc = ioctl(tap, request, argument);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

int net_tap_offload(int tap, uint64_t offloads)
{
    unsigned long flags = 0;
    int rc;

    if (offloads & NET_BIT(GUEST_CSUM))
        flags |= TUN_F_CSUM;
    if (offloads & NET_BIT(GUEST_TSO4))
        flags |= TUN_F_TSO4;
    if (offloads & NET_BIT(GUEST_TSO6))
        flags |= TUN_F_TSO6;
    if (offloads & NET_BIT(GUEST_ECN))
        flags |= TUN_F_TSO_ECN;
    if (offloads & NET_BIT(GUEST_UFO))
        flags |= TUN_F_UFO;
    do /* the argument is the value itself */
        rc = ioctl(tap, TUNSETOFFLOAD, flags);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

int net_tap_init(int tap, char interface[IF_NAMESIZE], uint64_t *features, kvmshim_error *err)
{
    static const unsigned int required = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header = NET_HEADER;
    struct ifreq request = {0};
    int flags, rc;

    rc = tap_ioctl(tap, TUNGETIFF, &request);
    if (rc < 0)
        return error_set(err, rc, "fd %d is no tap with an interface: TUNGETIFF", tap);
    memcpy(interface, request.ifr_name, IF_NAMESIZE);
    interface[IF_NAMESIZE - 1] = '\0';
    if (((unsigned short)request.ifr_flags & required) != required)
        return error_set(err, -EINVAL, "tap %s has flags 0x%x, needs IFF_TAP, IFF_NO_PI and "
                         "IFF_VNET_HDR (0x%x)", interface,
                         (unsigned int)(unsigned short)request.ifr_flags, required);
    rc = tap_ioctl(tap, TUNSETVNETHDRSZ, &header);
    if (rc < 0)
        return error_set(err, rc, "tap %s: TUNSETVNETHDRSZ", interface);
    flags = fcntl(tap, F_GETFL);
    if (flags < 0 || fcntl(tap, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set(err, -errno, "tap %s: make it non-blocking", interface);

    /* Kernels differ in UFO; and one that takes nothing still moves whole frames. */
    if (net_tap_offload(tap, *features & NET_GUEST_OFFLOADS) < 0)
        *features &= ~(NET_BIT(GUEST_UFO) | NET_BIT(HOST_UFO));
    if (net_tap_offload(tap, *features & NET_GUEST_OFFLOADS) < 0)
        *features &= ~NET_GUEST_OFFLOADS;
    rc = net_tap_offload(tap, 0);
    return rc < 0 ? error_set(err, rc, "tap %s: TUNSETOFFLOAD", interface) : 0;
}

int net_tap_attach(int tap, bool attach)
{
    struct ifreq request = {.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

    return tap_ioctl(tap, TUNSETQUEUE, &request);
}
