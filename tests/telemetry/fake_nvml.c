/* Speaks the part of NVML's C interface that the harness uses, for scripted GPUs:
 * FAKE_NVML_GPUS=N       so many GPUs (default 2); their UUIDs are GPU-0, GPU-1, ...
 * FAKE_NVML_INIT=CODE    initialising returns this error
 * FAKE_NVML_LOST=G:K     GPU number G is lost once its power has been read K times
 * FAKE_NVML_FAIL=F:CODE  the counter F (power, clock, temperature, memory, utilisation) returns this error on GPU 1
 * The k-th reading of a GPU's power, from 0, gives 100 W * (number + 1) + k W; the rest is constant.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALISED = 1, INVALID = 2, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
enum { MOST = 16 };

typedef struct { unsigned int number, power_readings; } Device;
typedef struct { unsigned int gpu, memory; } Utilisation;
typedef struct { unsigned long long total, free, used; } Memory;

static Device devices[MOST];
static int initialised;

static unsigned int setting(const char *name, unsigned int otherwise) {
    const char *text = getenv(name);
    return text ? (unsigned int)atoi(text) : otherwise;
}

/* What a call about this device returns unless it has a value to give. */
static int trouble(const Device *device, const char *counter) {
    unsigned int number, readings, code;
    char name[32];
    const char *text = getenv("FAKE_NVML_LOST");
    if (!initialised) return UNINITIALISED;
    if (text && sscanf(text, "%u:%u", &number, &readings) == 2 && number == device->number &&
        device->power_readings >= readings)
        return LOST;
    text = getenv("FAKE_NVML_FAIL");
    if (text && device->number == 1 && sscanf(text, "%31[a-z]:%u", name, &code) == 2 && !strcmp(name, counter))
        return (int)code;
    return SUCCESS;
}

static int say(char *buffer, unsigned int length, const char *text) {
    return snprintf(buffer, length, "%s", text) < (int)length ? SUCCESS : TOO_SMALL;
}

int nvmlInitWithFlags(unsigned int flags) {
    unsigned int error = setting("FAKE_NVML_INIT", SUCCESS);
    (void)flags;
    initialised = error == SUCCESS;
    for (unsigned int number = 0; number < MOST; number++) devices[number].number = number;
    return (int)error;
}

int nvmlShutdown(void) {
    initialised = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "scripted error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned int length) { return say(buffer, length, "999.1"); }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = setting("FAKE_NVML_GPUS", 2);
    return initialised ? SUCCESS : UNINITIALISED;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device **device) {
    if (index >= setting("FAKE_NVML_GPUS", 2)) return INVALID;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    unsigned int index;
    if (sscanf(uuid, "GPU-%u", &index) != 1 || index >= setting("FAKE_NVML_GPUS", 2)) return NOT_FOUND;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *device, char *buffer, unsigned int length) {
    char text[16];
    snprintf(text, sizeof text, "GPU-%u", device->number);
    return say(buffer, length, text);
}

int nvmlDeviceGetName(Device *device, char *buffer, unsigned int length) {
    (void)device;
    return say(buffer, length, "Scripted GPU");
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilisation *rates) {
    rates->gpu = 50 + device->number;
    rates->memory = 7;
    return trouble(device, "utilisation");
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    memory->total = 80000000000ULL;
    memory->used = 1000000000ULL * (device->number + 1);
    memory->free = memory->total - memory->used;
    return trouble(device, "memory");
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned int *milliwatts) {
    int problem = trouble(device, "power");
    *milliwatts = 1000 * (100 * (device->number + 1) + device->power_readings);
    device->power_readings++;
    return problem;
}

int nvmlDeviceGetTemperature(Device *device, unsigned int sensor, unsigned int *celsius) {
    *celsius = 60 + device->number;
    return sensor == 0 ? trouble(device, "temperature") : INVALID;
}

int nvmlDeviceGetClockInfo(Device *device, unsigned int clock, unsigned int *megahertz) {
    *megahertz = 1500;
    return clock == 1 ? trouble(device, "clock") : INVALID;
}
