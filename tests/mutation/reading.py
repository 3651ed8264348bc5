"""Guards of what is read: audio, mels, model files, foreign checkpoints."""

from table import Guards

AUDIO = [
    Guards(
        "places.py",
        "test_places.py",
        {
            'if (endpoint := os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://"):': "test_what_it_needs",
            "if self.parts[0] != SCHEME or len(self.parts) < 2:": "test_what_cannot_be_is_one_line",
            'if "NoSuchBucket" in text:': "test_what_cannot_be_is_one_line",
            'if kind in ("PermissionDeniedError", "UnauthenticatedError"):': "test_what_cannot_be_is_one_line",
        },
    ),
    Guards(
        "audio/containers.py",
        "test_places.py",
        {'if failure := getattr(source, "failure", None):': "test_a_storage_that_fails_in_the_middle_is_no_damaged"},
    ),
    Guards(
        "audio/containers.py",
        "test_audio_other.py",
        {"if said is not None and size < said:": "test_one_that_is_cut_is_refused"},
    ),
    Guards(
        "audio/other_containers.py",
        "test_audio_other.py",
        {"if not flags & 1:": "test_an_mp3_says_how_long_it_is_or_is_refused"},
    ),
    Guards(
        "audio/containers.py",
        "test_audio_faults.py",
        {
            "if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):": (
                "test_folders_pipes_and_devices_are_refused_without_waiting"
            ),
            'raise AudioError(f"{path}: is {_describe(head)}, not audio that wavediff reads; {cure}")': (
                "test_what_is_not_audio_is_refused_by_name",
                'kind = "WAV"',
            ),
            "if path.suffix and path.suffix.lower() not in READ[kind]:": "test_a_wrong_extension_is_warned_of",
            "if not MIN_SAMPLE_RATE <= info.sample_rate <= MAX_SAMPLE_RATE:": "test_impossible_sample_rates_are",
            "if info.channels > MAX_CHANNELS:": "test_more_than_eight_channels_are_refused",
        },
    ),
    Guards(
        "audio/containers.py",
        "test_audio_cut.py",
        {
            "if held < claimed:": "test_a_cut_wav_is_refused_or_read_leniently",
            "if claimed % frame_bytes:": "test_odd_bytes_are_warned_of",
            '_cut(path, "its last page is missing", lenient)': ("test_a_cut_flac_or_ogg_is_refused", "return"),
            "if info.frames < 1:": "test_zero_samples_are_refused",
            "if claimed == 0 and held > 0 and unset:": "test_streamed_wav_is_read_to_its_end",
            " or not _holds_chunks(file, offset, size)": ("test_streamed_wav_is_read_to_its_end", ""),
        },
    ),
    Guards(
        "audio/__init__.py",
        "test_audio_faults.py",
        {
            "if frames > max_seconds * info.sample_rate:": "test_a_bomb_is_refused_before_it_is_decoded",
            "if decoded > MAX_DECODED_BYTES:": "test_a_forged_duration_meets_the_limits",
            "if bad.any():": "test_nan_and_infinity_are_refused_with_place_and_count",
            "if peak > 1:": "test_samples_beyond_one_are_kept_with_a_warning",
            "elif peak == 0 and len(waveform) == info.frames:": "test_silence_is_warned_of",
        },
    ),
    Guards(
        "audio/__init__.py",
        "test_audio_cut.py",
        {"    if position < stop:": ("test_a_cut_flac_or_ogg_is_refused", "    if False:")},
    ),
    Guards(
        "audio/__init__.py",
        "test_audio.py",
        {
            "if (status.st_dev, status.st_ino) not in visited:": (
                "test_audio_files_are_listed_in_order_and_links_end",
                "if True:",
            ),
            "if not 0 <= start < stop <= info.frames:": "test_a_segment_outside_the_file_is_refused",
        },
    ),
    Guards(
        "audio/writing.py",
        "test_audio.py",
        {
            "if self._clipped:": "test_clipping_is_counted_and_never_wraps_around",
            ".clip(-full_scale, full_scale - 1)": ("test_clipping_is_counted_and_never_wraps_around", ""),
            "if not finite.all():": "test_what_is_no_waveform_is_not_written",
            "if self.failure is not None:": "test_a_full_disk_leaves_the_old_file",
        },
    ),
]

ARGUMENTS = [
    Guards(
        "arguments.py",
        "test_argument_table.py",
        {
            "if isinstance(values, str | bytes | os.PathLike):": "test_a_path_is_no_waveform",
            "if tensor.dtype not in _FLOATS:": "test_every_cell_of_the_table",
            "if tensor.layout != torch.strided or tensor.is_nested:": "test_every_cell_of_the_table",
            'if tensor.device.type == "meta":': "test_every_cell_of_the_table",
            'if array.dtype.kind != "f":': "test_every_cell_of_the_table",
            "if not samples.numel():": "test_every_cell_of_the_table",
            "if finite and not bool(torch.stack(samples.detach().aminmax()).float().isfinite().all()):": (
                "test_every_cell_of_the_table"
            ),
            "if samples.ndim not in dimensions if dimensions else samples.ndim < 1:": "test_every_cell_of_the_table",
            "if number is None or number < least or (most is not None and number > most):": (
                "test_every_cell_of_the_table"
            ),
            "if number is None or (finite and not math.isfinite(number)) or not fits(number):": (
                "test_every_cell_of_the_table"
            ),
        },
    ),
    Guards(
        "mel/check.py",
        "test_clipping.py",
        {"alike &= level > quiet + MARGIN": ("test_what_is_silent_or_beyond_its_length_is_no_padding", "pass")},
    ),
    Guards(
        "mel/check.py",
        "test_clipping.py",
        {"if warn and (padding := padded_frames(mel, spec)):": "test_a_mel_that_is_none_of_the_dialect"},
    ),
    Guards(
        "pipelines/mels.py",
        "test_clipping.py",
        {"if self.samples > _MOST * self.of:": "test_a_large_share_of_clipped_samples_names_the_likely_cause"},
    ),
    Guards(
        "audio/__init__.py",
        "test_audio_faults.py",
        {
            "elif loudness > 0 and _loudness(waveform) < _CANCELLED * loudness:": (
                "test_channels_that_cancel_each_other_are_told_from_silence"
            )
        },
    ),
    Guards(
        "audio/containers.py",
        "test_audio_faults.py",
        {'if path == Path("-"):': "test_standard_input_is_said_not_to_be_read"},
    ),
    Guards(
        "bulk/jobs.py",
        "test_audio_faults.py",
        {'if output == Path("-"):': "test_standard_input_is_said_not_to_be_read"},
    ),
]

MEL = [
    Guards(
        "mel/transform.py",
        "test_mel_faults.py",
        {
            "if not bool(finite.all()):": "test_a_mel_of_the_wrong_shape_or_type_is_refused",
            "if shape[-1] == spec.n_mels:": "test_a_mel_of_the_wrong_shape_or_type_is_refused",
            "if spec is not None and shape[-2] != spec.n_mels:": "test_a_mel_of_the_wrong_shape_or_type_is_refused",
            "if 0 in shape:": "test_a_mel_of_the_wrong_shape_or_type_is_refused",
        },
    ),
    Guards(
        "mel/check.py",
        "test_mel_faults.py",
        {
            "if fault := value_fault(mel, spec, whole=whole):": "test_values_of_another_domain_are_refused",
            "if warn and 0 < span_of(level) < _NARROW and mel.shape[-1] >= _NARROW_FRAMES and not at_floor:": (
                "test_decimal_logarithms_read_as_natural_ones_are_warned_of"
            ),
        },
    ),
    Guards(
        "mel/transform.py",
        "test_mel_faults.py",
        {"if float(level.min()) < math.log(lowest(spec)) - MARGIN:": "test_a_lower_floor_is_noticed"},
    ),
    Guards(
        "mel/mel_files.py",
        "test_mel_files.py",
        {
            'if self.dtype.kind != "f":': "test_a_hostile_or_damaged_npy_is_refused",
            "if min(self.shape, default=1) < 0 or claimed != held:": "test_a_hostile_or_damaged_npy_is_refused",
            "if file.readinto(values.data) != values.nbytes:": "test_a_file_that_becomes_shorter_while_it",
            "if header_bytes > _MAX_HEADER_BYTES:": "test_safetensors_that_hold_no_mel_are_refused",
            "if list(tensors.keys()) != [_TENSOR_KEY]:": "test_safetensors_that_hold_no_mel_are_refused",
            "if len(mel) != 1:": "test_what_could_not_be_read_again_is_not_written",
        },
    ),
]

MODELS = [
    Guards(
        "models/file.py",
        "test_checkpoint.py",
        {
            'if metadata.get("sha256") != digest(tensors, metadata):': "test_every_flipped_bit_is_noticed",
            "bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]": (
                "test_nan_weights_are_refused_on_saving_and_loading",
                "bad: list[str] = []",
            ),
            "if length > MAX_HEADER_BYTES:": "test_a_header_too_large_or_with_too_many_tensors_is_refused_unread",
            " or len(header) > MAX_TENSORS:": (
                "test_a_header_too_large_or_with_too_many_tensors_is_refused_unread",
                ":",
            ),
            "if int(version) > FORMAT_VERSION:": "test_a_newer_format_says_which_version_it_needs",
            'if start[:4] == b"PK\\x03\\x04" or (start[:1] == b"\\x80" and file.read(1) != b"{"):': (
                "test_a_pickle_is_refused_and_not_run"
            ),
        },
    ),
    Guards(
        "models/checkpoint.py",
        "test_checkpoint.py",
        {
            "if missing or extra:": "test_missing_and_extra_weights_are_listed",
            "if tensor.shape != expected[name].shape:": "test_a_wrong_shape_names_the_field_that_sets_it",
        },
    ),
    Guards(
        "models/file.py",
        "test_classifier.py",
        {"    if kind == wanted:": ("test_each_loader_refuses_the_other_kind", "    if True:")},
    ),
    Guards(
        "models/config.py",
        "test_checkpoint.py",
        {
            'check_keys("config", data, {f.name for f in dataclasses.fields(cls)})': (
                "test_a_configuration_cannot_name_code",
                "",
            ),
            "if self.mel is not None and self.mel.sample_rate != self.sample_rate:": (
                "test_labels_and_sample_rates_must_fit_the_model"
            ),
        },
    ),
    Guards(
        "mel/spec.py",
        "test_mel_faults.py",
        {
            "if not is_real(value) or not least <= value <= most:": (
                "test_a_dialect_out_of_bounds_is_refused_by_the_fields_name"
            ),
        },
    ),
    Guards(
        "models/torch_load.py",
        "test_restricted.py",
        {
            "if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):": (
                "test_a_compressed_file_is_refused"
            ),
            "if sum(entry.file_size for entry in entries) > path.stat().st_size:": (
                "test_a_file_that_unpacks_to_more_than_itself_is_refused"
            ),
            "if (damaged := archive.testzip()) is not None:": "test_a_flipped_bit_is_refused_or_changes_nothing",
            "weights_only=True": ("test_a_hostile_pickle_is_refused_and_runs_nothing", "weights_only=False"),
        },
    ),
    Guards(
        "models/importing.py",
        "test_importers.py",
        {
            "if claimed > path.stat().st_size:": "test_unfit_weights_are_refused",
            'if not plain or tensor.device.type != "cpu" or tensor.layout != torch.strided:': (
                "test_unfit_weights_are_refused"
            ),
            "check_finite(translated, path)": ("test_unfit_weights_are_refused", ""),
            "check_weights(weights, {theirs: tensor for theirs, (tensor, _) in expected.items()}, path, behind)": (
                "test_unfit_weights_are_refused",
                "",
            ),
        },
    ),
]
