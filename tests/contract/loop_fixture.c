#include "tests/contract/loop_fixture.h"

static void wake_cb(uv_timer_t *timer)
{
    (void)timer;
}

void loop_turn(uv_loop_t *loop)
{
    uv_timer_t timer;
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, wake_cb, 5, 0);
    uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
}

void ignore_message(void *ctx, struct link_id link, enum lane lane, const uint8_t *head, size_t size,
                    struct blob *body)
{
    (void)ctx;
    (void)link;
    (void)lane;
    (void)head;
    (void)size;
    (void)body;
}

void ignore_writable(void *ctx, struct link_id link)
{
    (void)ctx;
    (void)link;
}
