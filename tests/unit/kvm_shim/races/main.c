/* SPDX-License-Identifier: Apache-2.0 */
/* races DEVICE SECONDS: see races.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device_list.h"
#include "races.h"

enum {
    ECAM = 0xe8000000,
    BAR = 0xc0000000,
    BAR_SIZE = 0x80000,
    COMMAND = 0x04,
    BAR0 = 0x10,
    ISR = 0x2000,
    DEVICE_CONFIG = 0x4000,
    MSIX_TABLE = 0x8000,
    MSIX_PBA = 0x48000,
    MSIX_CONTROL = 0x42,
};

#define SECOND UINT64_C(1000000000)

struct run {
    kvmshim_vm *vm;
    const struct race_device *kind;
    kvmshim_device *device;
    uint64_t end;
    pthread_rwlock_t running; /* held for reading while a vCPU runs, written while paused */
    _Atomic bool stopping;
    struct driver *driver;
    uint64_t pauses;
};

static uint64_t config(uint32_t slot, uint32_t reg)
{
    return ECAM + ((uint64_t)slot << 15) + reg;
}

/* ---- vCPU 0 ------------------------------------------------------------------------- */

/* All that was asked for is answered, pauses or not. */
static void wait_for_answers(struct run *run)
{
    uint64_t deadline = machine_now_ns() + 20 * SECOND;

    for (bool done = false; !done;) {
        pthread_rwlock_rdlock(&run->running);
        done = driver_is_done(run->driver);
        pthread_rwlock_unlock(&run->running);
        if (machine_now_ns() > deadline)
            give_up("a request was lost");
    }
}

static void *driving(void *argument)
{
    struct run *run = argument;
    unsigned int seed = 1;

    atomic_store(&run->vm->vcpus[0]->reader.thread, pthread_self());
    for (uint64_t step = 1; !atomic_load(&run->stopping); step++) {
        pthread_rwlock_rdlock(&run->running);
        driver_step(run->driver, &seed);
        pthread_rwlock_unlock(&run->running);
        if (step % 64 == 0)
            wait_for_answers(run);
    }
    wait_for_answers(run);
    return NULL;
}

/* ---- vCPU 1 ------------------------------------------------------------------------- */

static void meddle(struct vcpu *vcpu, uint64_t bar, unsigned int *seed)
{
    unsigned int value = (unsigned int)rand_r(seed);

    switch (rand_r(seed) % 8) {
    case 0:
        machine_write(vcpu, bar + MSIX_TABLE + 12 + 16 * (value / 2 % 2), value % 2, 4);
        break;
    case 1:
        machine_read(vcpu, bar + MSIX_PBA, 8);
        break;
    case 2:
        machine_read(vcpu, bar + ISR, 1);
        break;
    case 3:
        machine_read(vcpu, bar + DEVICE_CONFIG + value % 64, 4);
        break;
    case 4:
        machine_write(vcpu, config(RACE_SLOT, MSIX_CONTROL), value & 0xc000, 2);
        break;
    case 5:
        machine_write(vcpu, config(RACE_OTHER_SLOT, COMMAND), value % 2 * 2, 2);
        break;
    case 6: /* sometimes onto the device that is in use */
        machine_write(vcpu, config(RACE_OTHER_SLOT, BAR0), BAR + value % 8 * BAR_SIZE, 4);
        break;
    default:
        machine_write(vcpu, BAR + (uint64_t)RACE_OTHER_SLOT * BAR_SIZE + 0x14, value % 16, 1);
    }
}

static void *meddling(void *argument)
{
    struct run *run = argument;
    struct vcpu *vcpu = run->vm->vcpus[1];
    uint64_t bar = BAR + (uint64_t)RACE_SLOT * BAR_SIZE;
    unsigned int seed = 2;

    atomic_store(&vcpu->reader.thread, pthread_self());
    while (!atomic_load(&run->stopping)) {
        pthread_rwlock_rdlock(&run->running);
        meddle(vcpu, bar, &seed);
        pthread_rwlock_unlock(&run->running);
    }
    return NULL;
}

/* ---- the control plane --------------------------------------------------------------- */

static void save_and_load(kvmshim_device *device, bool load)
{
    static uint8_t state[1 << 17];
    uint64_t size;

    REQUIRE(kvmshim_device_save(device, state, sizeof(state), &size, NULL) == 0);
    if (load)
        REQUIRE(kvmshim_device_load(device, state, size, NULL) == 0);
}

static void control(struct run *run)
{
    kvmshim_counter counters[64];
    kvmshim_event event;
    unsigned int seed = 3;
    uint32_t count;

    while (machine_now_ns() < run->end) {
        const struct timespec moment = {.tv_nsec = rand_r(&seed) % 2000000};

        nanosleep(&moment, NULL);
        pthread_rwlock_wrlock(&run->running);
        REQUIRE(device_pause_all(run->vm, machine_now_ns() + 20 * SECOND, NULL) == 0);
        save_and_load(run->device, rand_r(&seed) % 4 == 0);
        run->pauses++;
        device_resume_all(run->vm);
        pthread_rwlock_unlock(&run->running);
        if (run->kind->control)
            run->kind->control(run->device);
        REQUIRE(kvmshim_device_counters(run->device, counters, 64, &count, NULL) == 0);
        while (kvmshim_vm_event_next(run->vm, &event))
            if (event.kind == KVMSHIM_EVENT_DEVICE_LOG && strcmp(event.source, "raced") == 0)
                give_up(event.text);
    }
}

/* ---- all together --------------------------------------------------------------------- */

static kvmshim_device *create(struct run *run, kvmshim_device *pci, const char *id, uint8_t slot)
{
    const kvmshim_place place = {
        .pci = pci, .id = id, .slot = slot, .bar = BAR + (uint64_t)slot * BAR_SIZE};
    kvmshim_device *device = run->kind->create(run->vm, &place);

    machine_write(run->vm->vcpus[0], config(slot, COMMAND), 2, 2);
    return device;
}

int main(int argc, char **argv)
{
    struct run run = {.kind = race_devices};
    pthread_rwlockattr_t attributes;
    pthread_t threads[2];
    kvmshim_device *pci;

    while (argc == 3 && run.kind->name && strcmp(run.kind->name, argv[1]) != 0)
        run.kind++;
    if (argc != 3 || !run.kind->name)
        give_up("races DEVICE SECONDS");
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&run.running, &attributes);
    run.vm = machine_create();
    REQUIRE(kvmshim_pci_create(run.vm, ECAM, &pci, NULL) == 0);
    run.device = create(&run, pci, "raced", RACE_SLOT);
    create(&run, pci, "other", RACE_OTHER_SLOT);
    run.driver = driver_create(run.vm->vcpus[0], run.device, run.kind);
    run.end = machine_now_ns() + strtoul(argv[2], NULL, 10) * SECOND;
    pthread_create(&threads[0], NULL, driving, &run);
    pthread_create(&threads[1], NULL, meddling, &run);
    control(&run);
    atomic_store(&run.stopping, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%s: %llu requests, %llu pauses\n", run.kind->name,
           (unsigned long long)driver_requests(run.driver), (unsigned long long)run.pauses);
    driver_free(run.driver);
    machine_destroy(run.vm);
    pthread_rwlock_destroy(&run.running);
    return 0;
}
