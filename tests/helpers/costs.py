# SPDX-License-Identifier: Apache-2.0
"""About how long test files take: long ones begin first, and `make quick` keeps to its time."""

# Seconds of one core, of those above ten; `pytest --durations=0` shows them.
SECONDS = {
    "tests/distributed/test_layouts.py": 160,
    "tests/distributed/test_converted.py": 45,
    "tests/distributed/test_tensorboard.py": 40,
    "tests/distributed/test_kernels.py": 60,
    "tests/distributed/test_inside.py": 65,
    "tests/distributed/test_compiled_parts.py": 20,
    "tests/distributed/test_documents.py": 40,
    "tests/distributed/test_measured.py": 25,
    "tests/end_to_end/test_quickstart.py": 60,
    "tests/end_to_end/test_arguments_end_to_end.py": 25,
    "tests/end_to_end/test_preprocess_benchmark.py": 25,
    "tests/end_to_end/test_bad_input.py": 20,
    "tests/end_to_end/test_refused_by_megatron.py": 25,
    "tests/end_to_end/test_broken_checkpoints.py": 30,
    "tests/end_to_end/test_gpu_training.py": 50,
    "tests/end_to_end/test_step_overhead.py": 25,
    "tests/end_to_end/test_comparisons.py": 10,
    "tests/end_to_end/test_recipes.py": 25,
    "tests/end_to_end/test_readme.py": 25,
    "tests/multihost/test_rehearsal.py": 90,
    "tests/tools/checkpoint/test_convert_megatron_to_hf.py": 30,
    "tests/tools/checkpoint/test_compare_logits.py": 25,
    "tests/tools/checkpoint/test_convert_hf_to_megatron.py": 15,
    "tests/tools/checkpoint/test_own_rope.py": 15,
    "tests/tools/corpus/test_preprocess_data.py": 25,
    "tests/tools/corpus/test_prepare_odd_records.py": 20,
    "tests/tools/evaluation/test_evaluate_perplexity.py": 25,
    "tests/tools/evaluation/test_longbench_predict.py": 20,
    "tests/tools/evaluation/test_evaluate_needle.py": 15,
    "tests/tools/evaluation/test_evaluate_ruler.py": 12,
    "tests/tools/evaluation/test_ruler_prompts.py": 10,
    "tests/tools/evaluation/test_generate.py": 12,
    "tests/tools/reporting/test_report.py": 15,
    "tests/tools/test_light.py": 15,
    "tests/tools/tuning/test_train_e2_hf.py": 15,
    "tests/unit/megatron_patches/start/test_arguments.py": 20,
    "tests/unit/megatron_patches/start/test_refused_arguments.py": 20,
    "tests/unit/megatron_patches/checkpoint/test_model_fields.py": 10,
    "tests/end_to_end/test_going_on.py": 25,
    "tests/end_to_end/test_one_class_method.py": 20,
    "tests/end_to_end/test_engine.py": 30,
    "tests/tools/corpus/test_light_import.py": 15,
    "tests/unit/test_quick_python.py": 10,
}
OTHERS = 4


def seconds(path: str) -> float:
    """About how long a test file takes; ``path`` is from the project's folder."""
    return SECONDS.get(path, OTHERS)
