/* The functions of the module `_native`; an address is that of a tensor's memory, 0 for none. */
#include "kernels.h"

static PyObject *py_is_supported(PyObject *self, PyObject *arguments) {
    (void)self, (void)arguments;
#if HAS_KERNELS
    return PyBool_FromLong(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#else
    Py_RETURN_FALSE;
#endif
}

#if HAS_KERNELS

static PyObject *py_scratch_floats(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs, block;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnnn", &width, &channels, &outputs, &block)) return NULL;
    int kind = algorithm(width, channels, outputs);
    return PyLong_FromSsize_t(scratch_floats(kind, channels, outputs, block));
}

static PyObject *py_kernel_floats(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnn", &width, &channels, &outputs)) return NULL;
    return PyLong_FromSsize_t(kernel_floats(algorithm(width, channels, outputs), channels, outputs));
}

static PyObject *py_is_direct(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nnn", &width, &channels, &outputs)) return NULL;
    int kind = algorithm(width, channels, outputs);
    return PyBool_FromLong(kind == FROM_FEW || kind == TO_FEW);
}

static PyObject *py_pack(PyObject *self, PyObject *arguments) {
    Size width, channels, outputs;
    unsigned long long taps_address, kernel_address;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "nKnnK", &width, &taps_address, &channels, &outputs,
                          &kernel_address))
        return NULL;
    const float *taps = (const float *)(uintptr_t)taps_address;
    float *kernel = (float *)(uintptr_t)kernel_address;
    int kind = algorithm(width, channels, outputs);
    Py_BEGIN_ALLOW_THREADS
    if (kind == WINOGRAD) pack_3x3(taps, channels, outputs, kernel);
    else if (kind == TO_FEW) pack_matrix(taps, TAPS * TAPS, channels, outputs, kernel);
    else pack_matrix(taps, 1, width * width * channels, outputs, kernel);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_convolve(PyObject *self, PyObject *arguments) {
    Size width, first, last, panel, end;
    unsigned long long x, gate, kernel, bias, out, scratch;
    Convolution c;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "n(KKi)(KK)K(nnnn)(pp)(nnnnn)K", &width, &x, &gate,
                          &c.gate_kind, &kernel, &bias, &out, &c.height, &c.width, &c.channels,
                          &c.outputs, &c.relu, &c.replicate, &first, &last, &panel, &end, &c.block,
                          &scratch))
        return NULL;
    c.x = (const float *)(uintptr_t)x, c.gate = (const void *)(uintptr_t)gate;
    c.kernel = (const float *)(uintptr_t)kernel, c.bias = (const float *)(uintptr_t)bias;
    c.out = (float *)(uintptr_t)out, c.scratch = (float *)(uintptr_t)scratch;
    Py_BEGIN_ALLOW_THREADS
    int kind = algorithm(width, c.channels, c.outputs);
    if (kind == WINOGRAD) convolve(&c, first, last, panel, end);
    else if (kind == FROM_FEW) convolve_from_few(&c, first, last);
    else if (kind == TO_FEW) convolve_to_few(&c, first, last);
    else multiply(&c, first, last, panel, end);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_pool(PyObject *self, PyObject *arguments) {
    unsigned long long x, y, codes;
    Size first, last;
    Pooling p;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "(KKK)(nnn)(nnn)nppp(nn)", &x, &y, &codes, &p.size[0],
                          &p.size[1], &p.size[2], &p.kernel[0], &p.kernel[1], &p.kernel[2],
                          &p.channels, &p.half, &p.mask, &p.backwards, &first, &last))
        return NULL;
    p.x = (char *)(uintptr_t)x, p.y = (char *)(uintptr_t)y, p.codes = (uint8_t *)(uintptr_t)codes;
    p.step = p.channels;
    Py_BEGIN_ALLOW_THREADS
    pool(&p, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_pooled_sizes(PyObject *self, PyObject *arguments) {
    Size block, kernel[3], channels, outputs;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "n(nnn)nn", &block, &kernel[0], &kernel[1], &kernel[2],
                          &channels, &outputs))
        return NULL;
    return Py_BuildValue("nn", pooled_windows(block, kernel),
                         scratch_floats(MATRIX, channels, outputs, pooled_rows(block, kernel)));
}

static PyObject *py_convolve_pool(PyObject *self, PyObject *arguments) {
    unsigned long long x, kernel, bias, y, codes, scratch;
    Size first, last;
    Convolution c = {0};
    Pooling p = {0};
    (void)self;
    if (!PyArg_ParseTuple(arguments, "(KKK)(KK)(nn)(nnn)(nnn)p(nnn)K", &x, &y, &codes, &kernel,
                          &bias, &c.channels, &c.outputs, &p.size[0], &p.size[1], &p.size[2],
                          &p.kernel[0], &p.kernel[1], &p.kernel[2], &p.backwards, &first, &last,
                          &c.block, &scratch))
        return NULL;
    c.x = (const float *)(uintptr_t)x, c.out = (float *)(uintptr_t)x;
    c.kernel = (const float *)(uintptr_t)kernel, c.bias = (const float *)(uintptr_t)bias;
    c.relu = !p.backwards, c.scratch = (float *)(uintptr_t)scratch;
    p.y = (char *)(uintptr_t)y, p.codes = (uint8_t *)(uintptr_t)codes, p.mask = 1;
    p.channels = p.backwards ? c.channels : c.outputs;
    Py_BEGIN_ALLOW_THREADS
    multiply_pool(&c, &p, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_gram(PyObject *self, PyObject *arguments) {
    unsigned long long x, out, scratch;
    Size first, last;
    Gram g;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "KKnnnnK", &x, &out, &g.count, &g.channels, &first, &last,
                          &scratch))
        return NULL;
    g.x = (const float *)(uintptr_t)x, g.out = (float *)(uintptr_t)out;
    g.scratch = (float *)(uintptr_t)scratch;
    Py_BEGIN_ALLOW_THREADS
    gram(&g, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *py_find_nearest(PyObject *self, PyObject *arguments) {
    unsigned long long queries, keys, offsets, rows, scratch;
    Size first, last;
    Nearest n;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "K(KKn)nK(nn)K", &queries, &keys, &offsets, &n.panels,
                          &n.channels, &rows, &first, &last, &scratch))
        return NULL;
    n.queries = (const float *)(uintptr_t)queries, n.keys = (const float *)(uintptr_t)keys;
    n.offsets = (const float *)(uintptr_t)offsets, n.rows = (int64_t *)(uintptr_t)rows;
    n.scratch = (float *)(uintptr_t)scratch;
    Py_BEGIN_ALLOW_THREADS
    find_nearest(&n, first, last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

#endif

static PyMethodDef methods[] = {
    {"is_supported", py_is_supported, METH_NOARGS, NULL},
#if HAS_KERNELS
    {"is_direct", py_is_direct, METH_VARARGS, NULL},
    {"scratch_floats", py_scratch_floats, METH_VARARGS, NULL},
    {"kernel_floats", py_kernel_floats, METH_VARARGS, NULL},
    {"pack", py_pack, METH_VARARGS, NULL},
    {"convolve", py_convolve, METH_VARARGS, NULL},
    {"pooled_sizes", py_pooled_sizes, METH_VARARGS, NULL},
    {"convolve_pool", py_convolve_pool, METH_VARARGS, NULL},
    {"pool", py_pool, METH_VARARGS, NULL},
    {"gram", py_gram, METH_VARARGS, NULL},
    {"find_nearest", py_find_nearest, METH_VARARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native",
                                        "Computations of frozen networks, compiled from C.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
