/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MC146818 clock and CMOS memory at ports 0x70 and 0x71. The time is the host's UTC plus what
 * the guest added to it by setting the clock; that offset is what is saved, so a restored
 * guest reads the time that it is then. There is no interrupt: reads of register C give 0, and
 * an update is never in progress, since every read takes the time afresh.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bus.h"
#include "device.h"
#include "error.h"

enum {
    RTC_PORT = 0x70,
    RTC_PORTS = 2,
    RTC_REGISTERS = 128, /* the index port's bit 7 is the NMI mask, which a VM does not have */

    RTC_SECONDS = 0x00,
    RTC_SECONDS_ALARM = 0x01,
    RTC_MINUTES = 0x02,
    RTC_MINUTES_ALARM = 0x03,
    RTC_HOURS = 0x04,
    RTC_HOURS_ALARM = 0x05,
    RTC_DAY_OF_WEEK = 0x06,
    RTC_DAY_OF_MONTH = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    RTC_CENTURY = 0x32,
    /* RAM from 16 MiB to 4 GiB and from 4 GiB up, both in units of 64 KiB */
    CMOS_RAM_ABOVE_16M = 0x34,
    CMOS_RAM_ABOVE_4G = 0x5b,

    RTC_A_UPDATE_IN_PROGRESS = 0x80,
    RTC_A_RESET = 0x26, /* 32.768 kHz time base, 1.024 kHz periodic rate */
    RTC_B_SET = 0x80,   /* the guest is setting the clock: it stands still */
    RTC_B_BINARY = 0x04,
    RTC_B_24_HOURS = 0x02,
    RTC_D_VALID = 0x80, /* the battery is good */
    RTC_PM = 0x80,      /* of an hours register in 12-hour mode */
};

#define RAM_UNIT_SHIFT 16
#define RAM_16M (UINT64_C(16) << 20)
#define OFFSET_MAX_S (INT64_C(10000) * 366 * 86400) /* between any two four-digit years */
/* What the registers can show: 0000-01-01 00:00:00 to 9999-12-31 23:59:59. */
#define SECONDS_MIN INT64_C(-62167219200)
#define SECONDS_MAX INT64_C(253402300799)

/* The calendar as counted, without encoding. */
struct rtc_calendar {
    uint8_t second, minute, hour, day, month, year, century;
};

struct rtc {
    kvmshim_device device;
    pthread_mutex_t lock;
    uint8_t index;
    int64_t offset_s;         /* the guest's clock minus the host's */
    struct rtc_calendar held; /* the time while RTC_B_SET stops the clock */
    uint8_t cmos[RTC_REGISTERS]; /* every register but time, C and D */
};

struct rtc_state {
    uint8_t index;
    int64_t offset_s;
    uint8_t held[7]; /* in the order of struct rtc_calendar */
    uint8_t cmos[RTC_REGISTERS];
} __attribute__((packed));

static struct rtc_calendar rtc_calendar_of(int64_t offset_s)
{
    struct timespec now;
    struct tm tm;
    time_t seconds;

    clock_gettime(CLOCK_REALTIME, &now);
    seconds = now.tv_sec + offset_s;
    if (seconds < SECONDS_MIN)
        seconds = SECONDS_MIN;
    if (seconds > SECONDS_MAX)
        seconds = SECONDS_MAX;
    gmtime_r(&seconds, &tm); /* fails for years that do not fit an int only */
    return (struct rtc_calendar){
        .second = (uint8_t)tm.tm_sec,
        .minute = (uint8_t)tm.tm_min,
        .hour = (uint8_t)tm.tm_hour,
        .day = (uint8_t)tm.tm_mday,
        .month = (uint8_t)(tm.tm_mon + 1),
        .year = (uint8_t)((tm.tm_year + 1900) % 100),
        .century = (uint8_t)((tm.tm_year + 1900) / 100 % 100),
    };
}

static struct tm rtc_tm(const struct rtc_calendar *calendar)
{
    return (struct tm){
        .tm_sec = calendar->second,
        .tm_min = calendar->minute,
        .tm_hour = calendar->hour,
        .tm_mday = calendar->day,
        .tm_mon = calendar->month - 1,
        .tm_year = calendar->century * 100 + calendar->year - 1900,
    };
}

static int64_t rtc_offset_of(const struct rtc_calendar *calendar)
{
    struct timespec now;
    struct tm tm = rtc_tm(calendar);

    clock_gettime(CLOCK_REALTIME, &now);
    return timegm(&tm) - now.tv_sec;
}

static struct rtc_calendar rtc_now(const struct rtc *rtc)
{
    return rtc->cmos[RTC_B] & RTC_B_SET ? rtc->held : rtc_calendar_of(rtc->offset_s);
}

/* The field of the calendar behind a time register, but for the hours' mode and the day of
 * the week, which follows from the date. */
static uint8_t *rtc_field(struct rtc_calendar *calendar, uint8_t index)
{
    switch (index) {
    case RTC_SECONDS:
        return &calendar->second;
    case RTC_MINUTES:
        return &calendar->minute;
    case RTC_HOURS:
        return &calendar->hour;
    case RTC_DAY_OF_MONTH:
        return &calendar->day;
    case RTC_MONTH:
        return &calendar->month;
    case RTC_YEAR:
        return &calendar->year;
    case RTC_CENTURY:
        return &calendar->century;
    default:
        return NULL;
    }
}

static int rtc_in_range(uint8_t index, int value)
{
    switch (index) {
    case RTC_SECONDS:
    case RTC_MINUTES:
        return value <= 59;
    case RTC_HOURS:
        return value <= 23;
    case RTC_DAY_OF_MONTH:
        return value >= 1 && value <= 31;
    case RTC_MONTH:
        return value >= 1 && value <= 12;
    default: /* year, century */
        return value <= 99;
    }
}

static uint8_t rtc_encode(const struct rtc *rtc, int value)
{
    if (rtc->cmos[RTC_B] & RTC_B_BINARY)
        return (uint8_t)value;
    return (uint8_t)(value / 10 << 4 | value % 10);
}

/* -1 for what is not a number in the mode of register B. */
static int rtc_decode(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[RTC_B] & RTC_B_BINARY)
        return value;
    if ((value & 0x0f) > 9 || value >> 4 > 9)
        return -1;
    return (value >> 4) * 10 + (value & 0x0f);
}

static uint8_t rtc_encode_hour(const struct rtc *rtc, uint8_t hour)
{
    if (rtc->cmos[RTC_B] & RTC_B_24_HOURS)
        return rtc_encode(rtc, hour);
    return (uint8_t)(rtc_encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? RTC_PM : 0));
}

static int rtc_decode_hour(const struct rtc *rtc, uint8_t value)
{
    int hour;

    if (rtc->cmos[RTC_B] & RTC_B_24_HOURS)
        return rtc_decode(rtc, value);
    hour = rtc_decode(rtc, value & (uint8_t)~RTC_PM);
    if (hour < 1 || hour > 12)
        return -1;
    return hour % 12 + (value & RTC_PM ? 12 : 0);
}

static uint8_t rtc_read_register(struct rtc *rtc)
{
    struct rtc_calendar now;
    const uint8_t *field;

    switch (rtc->index) {
    case RTC_C:
        return 0;
    case RTC_D:
        return RTC_D_VALID;
    default:
        break;
    }
    now = rtc_now(rtc);
    if (rtc->index == RTC_DAY_OF_WEEK) {
        struct tm tm = rtc_tm(&now);

        timegm(&tm); /* fills in tm_wday */
        return rtc_encode(rtc, tm.tm_wday + 1);
    }
    field = rtc_field(&now, rtc->index);
    if (!field)
        return rtc->cmos[rtc->index];
    if (rtc->index == RTC_HOURS)
        return rtc_encode_hour(rtc, *field);
    return rtc_encode(rtc, *field);
}

static void rtc_write_time(struct rtc *rtc, uint8_t value)
{
    struct rtc_calendar now = rtc_now(rtc);
    int number = rtc->index == RTC_HOURS ? rtc_decode_hour(rtc, value) : rtc_decode(rtc, value);

    if (number < 0 || !rtc_in_range(rtc->index, number))
        return;
    *rtc_field(&now, rtc->index) = (uint8_t)number;
    if (rtc->cmos[RTC_B] & RTC_B_SET)
        rtc->held = now;
    else
        rtc->offset_s = rtc_offset_of(&now);
}

static void rtc_write_b(struct rtc *rtc, uint8_t value)
{
    uint8_t was = rtc->cmos[RTC_B];

    if (value & ~was & RTC_B_SET)
        rtc->held = rtc_calendar_of(rtc->offset_s);
    else if (was & ~value & RTC_B_SET)
        rtc->offset_s = rtc_offset_of(&rtc->held);
    rtc->cmos[RTC_B] = value;
}

static void rtc_write_register(struct rtc *rtc, uint8_t value)
{
    struct rtc_calendar unused;

    switch (rtc->index) {
    case RTC_A:
        rtc->cmos[RTC_A] = value & (uint8_t)~RTC_A_UPDATE_IN_PROGRESS;
        break;
    case RTC_B:
        rtc_write_b(rtc, value);
        break;
    case RTC_C:
    case RTC_D:
    case RTC_DAY_OF_WEEK:
    case CMOS_RAM_ABOVE_16M:
    case CMOS_RAM_ABOVE_16M + 1:
    case CMOS_RAM_ABOVE_4G:
    case CMOS_RAM_ABOVE_4G + 1:
    case CMOS_RAM_ABOVE_4G + 2:
        break;
    default:
        if (rtc_field(&unused, rtc->index))
            rtc_write_time(rtc, value);
        else
            rtc->cmos[rtc->index] = value;
        break;
    }
}

static void rtc_read(void *opaque, uint64_t offset, uint8_t *data, uint32_t size)
{
    struct rtc *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    for (uint32_t i = 0; i < size; i++)
        if (offset + i == 1) /* the index port is write-only */
            data[i] = rtc_read_register(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

static void rtc_write(void *opaque, uint64_t offset, const uint8_t *data, uint32_t size)
{
    struct rtc *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    for (uint32_t i = 0; i < size; i++) {
        if (offset + i == 0)
            rtc->index = data[i] & (RTC_REGISTERS - 1);
        else
            rtc_write_register(rtc, data[i]);
    }
    pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops rtc_bus_ops = {.read = rtc_read, .write = rtc_write};

static void rtc_save(kvmshim_device *device, void *state)
{
    struct rtc *rtc = (struct rtc *)device;
    struct rtc_state *saved = state;

    _Static_assert(sizeof(saved->held) == sizeof(rtc->held), "calendar bytes");
    pthread_mutex_lock(&rtc->lock);
    saved->index = rtc->index;
    saved->offset_s = rtc->offset_s;
    memcpy(saved->held, &rtc->held, sizeof(saved->held));
    memcpy(saved->cmos, rtc->cmos, sizeof(saved->cmos));
    pthread_mutex_unlock(&rtc->lock);
}

static int rtc_load(kvmshim_device *device, const void *state, kvmshim_error *err)
{
    static const uint8_t timed[] = {RTC_SECONDS,      RTC_MINUTES, RTC_HOURS,  RTC_DAY_OF_WEEK,
                                    RTC_DAY_OF_MONTH, RTC_MONTH,   RTC_YEAR,   RTC_C,
                                    RTC_D,            RTC_CENTURY};
    static const uint8_t held_registers[] = {RTC_SECONDS, RTC_MINUTES, RTC_HOURS,
                                             RTC_DAY_OF_MONTH, RTC_MONTH, RTC_YEAR, RTC_CENTURY};
    struct rtc *rtc = (struct rtc *)device;
    const struct rtc_state *saved = state;

    if (saved->index >= RTC_REGISTERS)
        return error_set(err, -EINVAL, "rtc state: index 0x%02x", saved->index);
    if (saved->offset_s > OFFSET_MAX_S || saved->offset_s < -OFFSET_MAX_S)
        return error_set(err, -EINVAL, "rtc state: offset of %lld s", (long long)saved->offset_s);
    for (uint32_t i = 0; i < sizeof(saved->held); i++)
        if (!rtc_in_range(held_registers[i], saved->held[i]))
            return error_set(err, -EINVAL, "rtc state: time register 0x%02x holds %u",
                             held_registers[i], saved->held[i]);
    for (uint32_t i = 0; i < sizeof(timed); i++)
        if (saved->cmos[timed[i]] != 0)
            return error_set(err, -EINVAL, "rtc state: register 0x%02x is not memory", timed[i]);
    if (saved->cmos[RTC_A] & RTC_A_UPDATE_IN_PROGRESS)
        return error_set(err, -EINVAL, "rtc state: register A is 0x%02x", saved->cmos[RTC_A]);
    /* The size of RAM belongs to the machine, which must be the same one. */
    if (memcmp(saved->cmos + CMOS_RAM_ABOVE_16M, rtc->cmos + CMOS_RAM_ABOVE_16M, 2) != 0 ||
        memcmp(saved->cmos + CMOS_RAM_ABOVE_4G, rtc->cmos + CMOS_RAM_ABOVE_4G, 3) != 0)
        return error_set(err, -EINVAL, "rtc state: of a machine with another RAM size");

    pthread_mutex_lock(&rtc->lock);
    rtc->index = saved->index;
    rtc->offset_s = saved->offset_s;
    memcpy(&rtc->held, saved->held, sizeof(saved->held));
    memcpy(rtc->cmos, saved->cmos, sizeof(saved->cmos));
    pthread_mutex_unlock(&rtc->lock);
    return 0;
}

static void rtc_destroy(kvmshim_device *device)
{
    struct rtc *rtc = (struct rtc *)device;

    bus_remove(device->vm, KVMSHIM_SPACE_PIO, RTC_PORT, NULL);
    pthread_mutex_destroy(&rtc->lock);
    free(rtc);
}

static const struct device_ops rtc_ops = {
    .name = "rtc",
    .version = 1,
    .state_size = sizeof(struct rtc_state),
    .save = rtc_save,
    .load = rtc_load,
    .destroy = rtc_destroy,
};

/* `bytes` bytes, little-endian, of a size in units of 64 KiB; all ones when it does not fit. */
static void rtc_set_ram(struct rtc *rtc, uint8_t index, uint32_t bytes, uint64_t ram)
{
    uint64_t units = ram >> RAM_UNIT_SHIFT;
    uint64_t most = (UINT64_C(1) << 8 * bytes) - 1;

    if (units > most)
        units = most;
    for (uint32_t i = 0; i < bytes; i++)
        rtc->cmos[index + i] = (uint8_t)(units >> 8 * i);
}

int kvmshim_rtc_create(kvmshim_vm *vm, uint64_t ram_below_4g, uint64_t ram_above_4g,
                       kvmshim_device **device, kvmshim_error *err)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));
    int rc;

    if (!rtc)
        return error_set(err, -ENOMEM, "rtc: allocate");
    rtc->device.vm = vm;
    pthread_mutex_init(&rtc->lock, NULL);
    rtc->cmos[RTC_A] = RTC_A_RESET;
    rtc->cmos[RTC_B] = RTC_B_24_HOURS;
    rtc->held = rtc_calendar_of(0);
    rtc_set_ram(rtc, CMOS_RAM_ABOVE_16M, 2, ram_below_4g > RAM_16M ? ram_below_4g - RAM_16M : 0);
    rtc_set_ram(rtc, CMOS_RAM_ABOVE_4G, 3, ram_above_4g);

    rc = bus_add(vm, KVMSHIM_SPACE_PIO, RTC_PORT, RTC_PORTS, &rtc_bus_ops, rtc, err);
    if (rc < 0) {
        pthread_mutex_destroy(&rtc->lock);
        free(rtc);
        return rc;
    }
    device_register(vm, &rtc->device, &rtc_ops);
    if (device)
        *device = &rtc->device;
    return 0;
}
