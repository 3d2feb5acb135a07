/* Opening a compiled model and checking what it says about itself. */
#ifndef EK_LIBRARY_H
#define EK_LIBRARY_H

#include "include/ek_model.h"
#include "job.h"

/* Opens the library named in the job; fails the job unless its description makes sense. */
const ek_model_t *ek_library_open(const char *path);

/* Orders the job's inputs as the model declares them and checks dtype, shape and file size;
 * fds[i] is the open file of input i. */
void ek_library_match(const ek_model_t *model, const ek_job_t *job, int *fds);

#endif
