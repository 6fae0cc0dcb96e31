/* Speaks the part of NVML's C interface that the harness uses, for scripted GPUs.
 *
 * A script is made of settings. Each is read whenever it matters: from the file named after it in the folder
 * $FAKE_NVML_FOLDER, if there is one, so that it may change meanwhile; otherwise from the variable $FAKE_NVML_<setting>.
 * G is a GPU's number, from 0; times are seconds of CLOCK_MONOTONIC, less START (default 0).
 *   GPUS=N              so many GPUs (default 2); their UUIDs are GPU-0, GPU-1, ...
 *   MIG=G:N             GPU G is in MIG mode, with N instances, MIG-G-1, MIG-G-2, ..., of 10 GB each; place 0 is empty
 *   NEAR=T0,T1,...      the hardware thread T0 is near GPU 0, and so on; a GPU without one does not tell
 *   INIT=CODE           initialising returns this error
 *   LOST=G:K            GPU G is lost once its power has been read K times in this process
 *   LOST_AT=G:T         GPU G is lost from the time T on
 *   FAIL=F:CODE         the counter F (utilisation, memory, power, energy, temperature, clock, memoryclock, throttle,
 *                       pcie, ecc, mig) returns this error on GPU 1
 *   THROTTLED=G:M:A:B   GPU G tells the mask M from the time A to the time B, and otherwise that it is not throttled
 *   OLD=1               a driver that does not know clock event reasons under their new name
 *   RAMP=P:W:S          GPU G uses (P + W * x) W * (G + 1) where x rises from 0 to 1 within S seconds from START on, and
 *                       stays there. Its energy counter is the exact integral from START on, up to the last update.
 *   PERIOD=S            the energy counter is updated every S seconds (default 0.02)
 * Without RAMP the k-th reading of a GPU's power in this process, from 0, gives 100 W * (G + 1) + k W, and its energy is
 * that of 100 W * (G + 1). Power, energy and clocks asked of a MIG instance are those of the whole GPU, as a trap:
 * whoever asks gives one instance what all of them use. The rest is constant.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALISED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, UNKNOWN_CALL = 13, LOST = 15 };
enum { MOST = 16, INSTANCES = 7 };

typedef struct { unsigned int number, instance, power_readings; } Device; /* instance 0: the whole GPU */
typedef struct { unsigned int gpu, memory; } Utilisation;
typedef struct { unsigned long long total, free, used; } Memory;

static Device devices[MOST][INSTANCES];
static int initialised; /* as often as this: NVML counts, too */

/* The text of a setting, in `text`; whether there is one. */
static int setting(const char *name, char text[64]) {
    char place[512];
    const char *folder = getenv("FAKE_NVML_FOLDER"), *value;
    FILE *file = NULL;
    if (folder) {
        snprintf(place, sizeof place, "%s/%s", folder, name);
        file = fopen(place, "r");
    }
    if (file) {
        int some = fgets(text, 64, file) != NULL;
        fclose(file);
        return some;
    }
    snprintf(place, sizeof place, "FAKE_NVML_%s", name);
    value = getenv(place);
    if (value) snprintf(text, 64, "%s", value);
    return value != NULL;
}

static double number(const char *name, double otherwise) {
    char text[64];
    return setting(name, text) ? atof(text) : otherwise;
}

static unsigned int gpus(void) { return (unsigned int)number("GPUS", 2); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec - number("START", 0);
}

/* So many MIG instances has a GPU, or -1 where it is not in that mode. */
static int instances(const Device *device) {
    char text[64];
    unsigned int gpu;
    int count;
    return setting("MIG", text) && sscanf(text, "%u:%d", &gpu, &count) == 2 && gpu == device->number ? count : -1;
}

/* What a call about this device returns unless it has a value to give. */
static int trouble(const Device *device, const char *counter) {
    unsigned int gpu, readings, code;
    double time;
    char text[64], name[32];
    if (!initialised) return UNINITIALISED;
    if (setting("LOST", text) && sscanf(text, "%u:%u", &gpu, &readings) == 2 && gpu == device->number &&
        device->power_readings >= readings)
        return LOST;
    if (setting("LOST_AT", text) && sscanf(text, "%u:%lf", &gpu, &time) == 2 && gpu == device->number && now() >= time)
        return LOST;
    if (setting("FAIL", text) && device->number == 1 && sscanf(text, "%31[a-z]:%u", name, &code) == 2 &&
        !strcmp(name, counter))
        return (int)code;
    return SUCCESS;
}

static int say(char *buffer, unsigned int length, const char *text) {
    return snprintf(buffer, length, "%s", text) < (int)length ? SUCCESS : TOO_SMALL;
}

/* Whether power is scripted, and then what GPU 0 uses at this time, in W, and has used until then, in J. */
static int ramp(double time, double *watts, double *joules) {
    char text[64];
    double base, rise, length, along;
    if (!setting("RAMP", text) || sscanf(text, "%lf:%lf:%lf", &base, &rise, &length) != 3) return 0;
    along = fmax(0, fmin(time, length));
    *watts = base + rise * along / length;
    *joules = base * fmax(0, time) + rise * (along * along / (2 * length) + fmax(0, time - length));
    return 1;
}

int nvmlInitWithFlags(unsigned int flags) {
    unsigned int error = (unsigned int)number("INIT", SUCCESS);
    (void)flags;
    initialised += error == SUCCESS;
    for (unsigned int gpu = 0; gpu < MOST; gpu++)
        for (unsigned int instance = 0; instance < INSTANCES; instance++) {
            devices[gpu][instance].number = gpu;
            devices[gpu][instance].instance = instance;
        }
    return (int)error;
}

int nvmlShutdown(void) {
    if (initialised) initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "scripted error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned int length) { return say(buffer, length, "999.1"); }

int nvmlSystemGetCudaDriverVersion(int *version) {
    *version = 12040;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = gpus();
    return initialised ? SUCCESS : UNINITIALISED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device **device) {
    if (index >= gpus()) return INVALID;
    *device = &devices[index][0];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    unsigned int gpu, instance = 0;
    if (sscanf(uuid, "GPU-%u", &gpu) != 1 && sscanf(uuid, "MIG-%u-%u", &gpu, &instance) != 2) return NOT_FOUND;
    if (gpu >= gpus() || (instance && (int)instance > instances(&devices[gpu][0]))) return NOT_FOUND;
    *device = &devices[gpu][instance];
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *device, char *buffer, unsigned int length) {
    char text[32];
    snprintf(text, sizeof text, device->instance ? "MIG-%u-%u" : "GPU-%u", device->number, device->instance);
    return say(buffer, length, text);
}

int nvmlDeviceGetName(Device *device, char *buffer, unsigned int length) {
    return say(buffer, length, device->instance ? "Scripted GPU MIG 1g.10gb" : "Scripted GPU");
}

int nvmlDeviceGetMigMode(Device *device, unsigned int *current, unsigned int *pending) {
    *current = *pending = instances(device) >= 0;
    return device->number == 1 ? trouble(device, "mig") : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned int *count) {
    *count = INSTANCES;
    return trouble(device, "mig");
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned int index, Device **instance) {
    if (index == 0 || (int)index > instances(device)) return NOT_FOUND;
    *instance = &devices[device->number][index];
    return trouble(device, "mig");
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *instance, Device **device) {
    *device = &devices[instance->number][0];
    return instance->instance ? SUCCESS : INVALID;
}

int nvmlDeviceGetCpuAffinity(Device *device, unsigned int words, unsigned long long *threads) {
    char text[64], *at = text;
    if (device->instance) return INVALID;
    if (!setting("NEAR", text)) return NOT_SUPPORTED;
    for (unsigned int gpu = 0; gpu < device->number && at; gpu++)
        if ((at = strchr(at, ','))) at++;
    if (!at) return NOT_SUPPORTED;
    memset(threads, 0, words * sizeof *threads);
    threads[atoi(at) / 64] = 1ULL << atoi(at) % 64;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilisation *rates) {
    rates->gpu = 50 + device->number;
    rates->memory = 7;
    return device->instance ? NOT_SUPPORTED : trouble(device, "utilisation");
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    memory->total = device->instance ? 10000000000ULL : 80000000000ULL;
    memory->used = device->instance ? 100000000ULL * device->instance : 1000000000ULL * (device->number + 1);
    memory->free = memory->total - memory->used;
    return trouble(device, "memory");
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned int *milliwatts) {
    int problem = trouble(device, "power");
    double watts, joules;
    if (ramp(now(), &watts, &joules))
        *milliwatts = (unsigned int)(1000 * watts * (device->number + 1));
    else
        *milliwatts = 1000 * (100 * (device->number + 1) + device->power_readings);
    device->power_readings++;
    return problem;
}

int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    double period = number("PERIOD", 0.02), time = fmax(0, period * floor(now() / period)), watts, joules;
    if (!ramp(time, &watts, &joules)) joules = 100 * time;
    *millijoules = (unsigned long long)(1000 * joules * (device->number + 1));
    return trouble(device, "energy");
}

int nvmlDeviceGetTemperature(Device *device, unsigned int sensor, unsigned int *celsius) {
    *celsius = 60 + device->number;
    return sensor == 0 ? trouble(device, "temperature") : INVALID;
}

int nvmlDeviceGetClockInfo(Device *device, unsigned int clock, unsigned int *megahertz) {
    *megahertz = clock == 1 ? 1500 : 2600;
    if (clock != 1 && clock != 2) return INVALID;
    return trouble(device, clock == 1 ? "clock" : "memoryclock");
}

static int throttling(const Device *device, unsigned long long *mask) {
    char text[64];
    unsigned int gpu;
    unsigned long long told;
    double from, to, time = now();
    *mask = 0;
    if (setting("THROTTLED", text) && sscanf(text, "%u:%llu:%lf:%lf", &gpu, &told, &from, &to) == 4 &&
        gpu == device->number && from <= time && time < to)
        *mask = told;
    return trouble(device, "throttle");
}

int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *mask) {
    return number("OLD", 0) != 0 ? UNKNOWN_CALL : throttling(device, mask);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *mask) {
    return number("OLD", 0) != 0 ? throttling(device, mask) : UNKNOWN_CALL;
}

int nvmlDeviceGetPcieThroughput(Device *device, unsigned int direction, unsigned int *kilobytes_per_s) {
    *kilobytes_per_s = (direction == 0 ? 1000 : 2000) * (device->number + 1); /* 0: sent by the GPU */
    return trouble(device, "pcie");
}

int nvmlDeviceGetTotalEccErrors(Device *device, unsigned int kind, unsigned int since, unsigned long long *count) {
    *count = kind == 0 ? 3 : 1; /* 0: corrected */
    return since == 0 ? trouble(device, "ecc") : INVALID;
}
