/* Threads of one model. All of it is static: two models in one process have a pool each.
 *
 * A job is a range of items. Every thread begins with a share of its own, taken piece by piece, and
 * then helps the others, so a thread that wakes late or is held up delays nobody. Between two jobs a
 * thread looks for work for some microseconds, because steps follow each other closely, and then
 * sleeps: a model that is not running uses no CPU.
 *
 * Workers are started by `pool_resize` and ended by it or when the library is unloaded. A child made
 * by fork() has none of them: it notices and computes on its own thread until resized again.
 *
 * With EK_MAX_THREADS of 1 nothing of this is left, and no thread library is needed.
 */
#ifndef EK_POOL_H
#define EK_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifndef EK_MAX_THREADS
#define EK_MAX_THREADS 8
#endif

typedef struct {
  int (*call)(void *const *arguments, uint8_t *scratch, int32_t begin, int32_t end);
  void *const *arguments;
  uint8_t *scratch;      /* of thread 0 */
  size_t scratch_stride; /* from one thread's scratch to the next one's */
  int32_t num_items;
} pool_job_t;

#if EK_MAX_THREADS == 1

static void pool_check_owner(void) {}

static int pool_run(const pool_job_t *job) {
  return job->call(job->arguments, job->scratch, 0, job->num_items);
}

static int pool_resize(int wanted) {
  (void)wanted;
  return 1;
}

#else

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

typedef struct {
  _Alignas(64) atomic_int next; /* first item nobody has taken */
  int32_t end, piece;
} pool_share_t;

enum {
  POOL_CLOSED = 1 << 16,    /* flag in `members`: nobody may join the job any more */
  POOL_SPINS = 3000,        /* some 20 to 100 microseconds */
  POOL_PIECES = 2,          /* of a share: big pieces keep weights in the nearest cache */
  POOL_STACK = 1024 * 1024, /* musl gives threads 128 KiB */
};

static struct {
  pool_job_t job;
  pool_share_t shares[EK_MAX_THREADS];
  _Alignas(64) atomic_uint number; /* of jobs so far */
  _Alignas(64) atomic_int members; /* workers inside the job, and POOL_CLOSED */
  atomic_int status, sleepers;
  atomic_int size; /* threads in force, the caller of the model among them */
  pid_t owner;
  pthread_t threads[EK_MAX_THREADS];
  pthread_mutex_t mutex;
  pthread_cond_t wake;
} pool = {.members = POOL_CLOSED,
          .size = 1,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER};

static inline void pool_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static void pool_take(pool_share_t *share, uint8_t *scratch) {
  for (;;) {
    const int32_t begin = atomic_fetch_add_explicit(&share->next, share->piece, memory_order_relaxed);
    if (begin >= share->end) return;
    const int32_t end = share->end - begin < share->piece ? share->end : begin + share->piece;
    const int status = pool.job.call(pool.job.arguments, scratch, begin, end);
    if (status) atomic_store(&pool.status, status);
  }
}

static void pool_work(int thread, int size) {
  uint8_t *scratch = pool.job.scratch + (size_t)thread * pool.job.scratch_stride;
  for (int i = 0; i < size; i++) pool_take(&pool.shares[(thread + i) % size], scratch);
}

/* Returns the number of a job that is not `seen`, or `seen` when the worker shall end. */
static unsigned pool_await(int thread, unsigned seen) {
  for (int spins = 0; spins < POOL_SPINS; spins++) {
    const unsigned number = atomic_load_explicit(&pool.number, memory_order_acquire);
    if (number != seen) return number;
    pool_relax();
  }
  pthread_mutex_lock(&pool.mutex);
  atomic_fetch_add(&pool.sleepers, 1);
  while (atomic_load(&pool.number) == seen && thread < atomic_load(&pool.size))
    pthread_cond_wait(&pool.wake, &pool.mutex);
  atomic_fetch_sub(&pool.sleepers, 1);
  pthread_mutex_unlock(&pool.mutex);
  return atomic_load(&pool.number);
}

static void *pool_worker(void *argument) {
  const int thread = (int)(intptr_t)argument;
  unsigned seen = 0;
  while (thread < atomic_load(&pool.size)) {
    seen = pool_await(thread, seen);
    /* Joining and closing are one atomic word: a job is over only when no one is inside. */
    if (!(atomic_fetch_add(&pool.members, 1) & POOL_CLOSED)) {
      const int size = atomic_load_explicit(&pool.size, memory_order_relaxed);
      if (thread < size) pool_work(thread, size);
    }
    atomic_fetch_sub(&pool.members, 1);
  }
  return NULL;
}

static void pool_share_out(int size, int32_t num_items) {
  for (int i = 0; i < size; i++) {
    const int32_t begin = (int32_t)((int64_t)num_items * i / size);
    const int32_t end = (int32_t)((int64_t)num_items * (i + 1) / size);
    const int32_t piece = (end - begin + POOL_PIECES - 1) / POOL_PIECES;
    pool.shares[i].end = end;
    pool.shares[i].piece = piece ? piece : 1;
    atomic_store_explicit(&pool.shares[i].next, begin, memory_order_relaxed);
  }
}

static void pool_after_fork(void) {
  pool.owner = getpid();
  pthread_mutex_init(&pool.mutex, NULL);
  pthread_cond_init(&pool.wake, NULL);
  atomic_store(&pool.members, POOL_CLOSED);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.size, 1);
}

/* To be called before the first job of a run; asking costs a system call. */
static void pool_check_owner(void) {
  if (atomic_load(&pool.size) > 1 && pool.owner != getpid()) pool_after_fork();
}

static int pool_run(const pool_job_t *job) {
  const int size = atomic_load_explicit(&pool.size, memory_order_relaxed);
  if (size == 1 || job->num_items == 1)
    return job->call(job->arguments, job->scratch, 0, job->num_items);
  pool.job = *job;
  atomic_store_explicit(&pool.status, 0, memory_order_relaxed);
  pool_share_out(size, job->num_items);
  atomic_fetch_and(&pool.members, ~POOL_CLOSED);
  atomic_fetch_add(&pool.number, 1);
  if (atomic_load(&pool.sleepers)) {
    pthread_mutex_lock(&pool.mutex);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
  }
  pool_work(0, size);
  atomic_fetch_or(&pool.members, POOL_CLOSED);
  for (int spins = 0; atomic_load_explicit(&pool.members, memory_order_acquire) != POOL_CLOSED;)
    if (++spins < POOL_SPINS) pool_relax();
    else sched_yield(); /* more threads than processors: let the others finish */
  return atomic_load(&pool.status);
}

static int pool_start(int thread) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes)) return 1;
  pthread_attr_setstacksize(&attributes, POOL_STACK);
  const int failed = pthread_create(&pool.threads[thread], &attributes, pool_worker,
                                    (void *)(intptr_t)thread);
  pthread_attr_destroy(&attributes);
  return failed;
}

/* Returns the number of threads in force afterwards. Not while the model runs. */
static int pool_resize(int wanted) {
  pool_check_owner();
  if (wanted < 1) wanted = 1;
  if (wanted > EK_MAX_THREADS) wanted = EK_MAX_THREADS;
  const int before = atomic_load(&pool.size);
  pool.owner = getpid();
  pthread_mutex_lock(&pool.mutex);
  atomic_store(&pool.size, wanted);
  atomic_fetch_add(&pool.number, 1); /* whoever is to end, or spins, looks again */
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);
  for (int i = wanted; i < before; i++) pthread_join(pool.threads[i], NULL);
  for (int i = before; i < wanted; i++)
    if (pool_start(i)) {
      atomic_store(&pool.size, i);
      return i;
    }
  return wanted;
}

/* Code that is being unloaded must not be running anywhere. */
__attribute__((destructor)) static void pool_end(void) {
  pool_check_owner();
  if (atomic_load(&pool.size) > 1) pool_resize(1);
}

#endif
#endif
