/* The lag of the agent's loop, measured by a timer that does nothing else: ten times a second it looks how late it is.
 * The node's own deadlines would not do: they are set anew after each event, also after the one that took long. */
#include "agent/daemon/daemon.h"

#define PERIOD_MS 100u

static void arm(struct agent *a);

static void lag_cb(uv_timer_t *timer)
{
    struct agent *a = timer->data;
    uint64_t now_us = uv_hrtime() / 1000;
    lag_add(&a->loop_lag, now_us > a->lag_due_us ? now_us - a->lag_due_us : 0, PERIOD_MS * 1000u);
    arm(a);
}

static void arm(struct agent *a)
{
    uv_update_time(&a->loop);
    a->lag_due_us = (uv_now(&a->loop) + PERIOD_MS) * 1000u;
    uv_timer_start(&a->lag, lag_cb, PERIOD_MS, 0);
}

void agent_lag_start(struct agent *a)
{
    arm(a);
}
