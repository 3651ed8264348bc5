"""Guards of whole kinds of faults: outputs, buffers, text files, defaults, streams, folders, names, messages."""

from table import Guards

_UTF8 = 'encoding="utf-8"'

KINDS = [
    Guards(
        "pipelines/pipeline.py",
        "test_outputs.py",
        {"torch.inference_mode(False), torch.no_grad()": ("test_outputs_are_ordinary", "torch.inference_mode()")},
    ),
    Guards(
        "pipelines/chunks.py",
        "test_stream_chunks.py",
        {
            "torch.clone(frames.detach())": ("test_a_buffer_that_is_used_again", "frames"),
            "if shape[:-2] != first:": "test_chunks_that_are_no_mel_are_refused",
        },
    ),
    Guards(
        "pipelines/pipeline.py",
        "test_stream_chunks.py",
        {
            "except (RuntimeError, TypeError, ValueError) as error:": (
                "test_a_sparse_mel_and_a_type",
                "except OSError as error:",
            )
        },
    ),
    *(
        Guards(file, "test_windows_text.py", {'encoding="utf-8-sig"': (test, _UTF8)})
        for file, test in {
            "data/corpora/sharing.py": "test_a_mark_is_no_part_of_a_transcript",
            "data/manifest.py": "test_a_manifest_may_have_a_mark",
            "metrics/recordings.py": "test_a_list_of_stems",
        }.items()
    ),
    Guards(
        "mel/transform.py",
        "test_global_state.py",
        {'torch.device("cpu"), _default_float32(), ': ("test_defaults_of_torch", "")},
    ),
    Guards(
        "models/checkpoint.py",
        "test_global_state.py",
        {'torch.device("cpu"), OwnDraws()': ("test_defaults_of_torch", "OwnDraws()")},
    ),
    Guards(
        "cli/main.py",
        "test_cli_streams.py",
        {
            "os.open(os.devnull, os.O_RDWR)": ("test_a_closed_descriptor_is_filled", "pass"),
            "if stream is None or stream.closed:": "test_a_closed_descriptor_is_filled",
            'stream.reconfigure(errors="backslashreplace")': ("test_a_name_that_the_encoding_lacks", "pass"),
        },
    ),
    Guards(
        "files.py",
        "test_leftovers.py",
        {
            'part.startswith(".") or ': ("test_each_of_them_is_known", ""),
            " or part.lower() in SYSTEM_FOLDERS": ("test_each_of_them_is_known", ""),
        },
    ),
    Guards("audio/__init__.py", "test_leftovers.py", {"if is_leftover(path.relative_to(root)):": "test_all_commands"}),
    Guards(
        "data/corpora/ljspeech.py",
        "test_nearly_right_corpora.py",
        {
            "if number == 1 and clip_id.strip().lower() in _HEADERS "
            'and not (folder / "wavs" / f"{clip_id}.wav").exists():': "test_a_header_is_left_out",
            'clip_id = clip_id.removesuffix(".wav")': ("test_ids_may_end_in_the_extension", "pass"),
            'line.removesuffix(".wav")': ("test_ids_may_end_in_the_extension", "line"),
        },
    ),
    Guards(
        "data/corpora/folder.py",
        "test_nearly_right_corpora.py",
        {"if not counts:": ("test_a_folder_of_other_formats", "if True:")},
    ),
    Guards(
        "pipelines/stream_pool.py",
        "test_stream_pool.py",
        {
            "return value[index : index + 1]": ("test_streams_of_unlike_progress", "return value[:1]"),
            "return tuple(value.shape[1:])": ("test_streams_that_are_under_way", "return id(value)"),
        },
    ),
    Guards(
        "errors.py",
        "test_argument_values.py",
        {r'"\s*[\r\n]\s*", " "': ("test_a_message_is_one_line", r'"\0", ""')},
    ),
    Guards(
        "diffusion/plan.py",
        "test_vocoder.py",
        {
            'whole(self.num_steps, "num_steps", 1, most, SamplingError)': (
                "test_impossible_sampling_is_refused",
                "self.num_steps",
            )
        },
    ),
    Guards(
        "diffusion/plan.py",
        "test_argument_values.py",
        {
            "return default if self.sampler is None else": (
                "test_any_value_in_any_cell",
                "return default if not self.sampler else",
            ),
        },
    ),
    Guards(
        "diffusion/noise.py",
        "test_argument_values.py",
        {"    if not items:": ("test_a_list_of_no_seeds", "    if items is None:")},
    ),
    Guards(
        "arguments.py",
        "test_argument_values.py",
        {"    if not known:": ("test_any_value_in_any_cell", "    if isinstance(path, int):")},
    ),
]
