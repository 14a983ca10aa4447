/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the transport are to each other; devices see virtio_device.h. */
#ifndef KVM_SHIM_VIRTIO_TRANSPORT_H
#define KVM_SHIM_VIRTIO_TRANSPORT_H

#include "virtio_device.h"

#define VIRTIO_RESET_TIMEOUT_NS UINT64_C(10000000000)

/* ---- virtio_device.c: the life of a device; its lock is held ---------------- */

/* Work, if the driver said DRIVER_OK and all is well. */
void virtio_start(struct virtio_device *device);
/* Harmless on a device that does not work. */
int virtio_stop(struct virtio_device *device, uint64_t deadline_ns);
void virtio_status_write(struct virtio_device *device, uint8_t value);

/* Are these status bits, the later of them not without the earlier (virtio 1.2, 3.1.1)? */
bool virtio_status_valid(uint8_t status);
/* Does the device take these features? */
bool virtio_features_ok(const struct virtio_device *device, uint64_t features);

/* ---- virtio_pci.c: registers ------------------------------------------------ */

/* Lay out the configuration space and join the bus. */
int virtio_pci_init(struct virtio_device *device, const kvmshim_place *place,
                    kvmshim_error *err);
void virtio_pci_free(struct virtio_device *device);

/* ---- virtio_common.c: the common configuration structure; the lock is held --- */

void virtio_common_read(struct virtio_device *device, uint32_t offset, uint8_t *data,
                        uint32_t size);
void virtio_common_write(struct virtio_device *device, uint32_t offset, const uint8_t *data,
                         uint32_t size);

/* ---- virtio_state.c: as in device.h ----------------------------------------- */

uint32_t virtio_state_size(const struct virtio_device *device);
void virtio_save(kvmshim_device *device, void *state);
int virtio_load(kvmshim_device *device, const void *state, kvmshim_error *err);

#endif
