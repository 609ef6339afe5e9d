// Work without the GIL, also while the interpreter ends.
//
// In: work that touches no Python object. Out: the same, with the GIL taken back. A daemon thread that wants the GIL
// back from an interpreter that ends is ended by Python (before 3.14): its stack is unwound, through destructors that
// may not throw, and the whole process would abort. Such a thread sleeps instead until the process is gone, as Python
// 3.14 has it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>

namespace wsolkern {

inline void take_gil(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {  // the thread's forced end, which waits for the end of this block
    for (;;) pause();
  }
}

// work(state), with what the GIL was released from.
template <class Work>
void without_gil(Work&& work) {
  PyThreadState* const state = PyEval_SaveThread();
  std::exception_ptr failure;
  try {
    work(state);
  } catch (...) {
    failure = std::current_exception();
  }
  take_gil(state);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace wsolkern
