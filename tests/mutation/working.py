"""Guards of what is done and written: files, corpora, many files, service, Hub, training, sampling, the machine."""

from table import Guards

FILES = [
    Guards(
        "files.py",
        "test_audio.py",
        {"if not overwrite and path.exists():": "test_an_existing_file_is_replaced_only_on_request"},
    ),
    Guards(
        "files.py",
        "test_environment.py",
        {"temporary.chmod(permissions)": ("test_files_are_allowed_what_the_mask_leaves", "")},
    ),
    Guards(
        "files.py",
        "test_audio.py",
        {"temporary.unlink(missing_ok=True)": ("test_a_full_disk_leaves_the_old_file", "pass")},
    ),
]

CORPORA = [
    Guards(
        "data/manifest.py",
        "test_manifest.py",
        {
            "if unknown := sorted(row.keys() - _KEYS):": "test_a_bad_line_of_a_manifest_is_named",
            "if type(seconds) not in (int, float) or not 0 < seconds < 1e9:": "test_a_bad_line_of_a_manifest_is_named",
            "if not utterances:": "test_a_manifest_missing_empty_or_not_text_is_refused",
        },
    ),
    Guards(
        "data/dataset.py",
        "test_dataset.py",
        {
            "if num_broken > MAX_SKIPPED_SHARE * len(self):": "test_too_many_broken_files_end_the_run",
            "self._broken[index] = True": ("test_broken_files_are_replaced_and_reported_once", ""),
        },
    ),
    Guards(
        "data/shuffling.py",
        "test_batches.py",
        {"if len(self) == 0:": "test_fewer_clips_than_a_batch_are_refused_unless_repeated"},
    ),
    Guards(
        "data/datamodule.py",
        "test_shards.py",
        {"if not all(held) or (lists and not mels_of(lists)):": "test_labels_and_mels_come_from_object_storage"},
    ),
    Guards(
        "data/paired.py",
        "test_shards.py",
        {
            "if corpus.mel_spec is not None and corpus.mel_spec != spec:": (
                "test_labels_and_mels_come_from_object_storage"
            )
        },
    ),
    Guards(
        "data/shards.py",
        "test_shards.py",
        {
            "if mel_spec is not None and mel_spec.sample_rate != sample_rate:": "test_mels_of_another_rate",
            "labels_file.unlink(missing_ok=True)": ("test_clips_carry_their_labels_and_a_corpus_without", "pass"),
        },
    ),
    Guards(
        "data/packed.py",
        "test_shards.py",
        {"if labels is not None and not whole:": "test_clips_carry_their_labels_and_a_corpus_without"},
    ),
    Guards(
        "data/readers.py",
        "test_batches.py",
        {
            'if reason.startswith("DataLoader timed out after"):': "test_a_worker_that_fails_ends_the_run_with_one",
            'elif not reason.startswith("DataLoader worker (pid"):': "test_what_a_worker_raised_is_its_error",
        },
    ),
]

BULK = [
    Guards(
        "bulk/jobs.py",
        "test_places.py",
        {
            "elif isinstance(path, Address) and path.suffix.lower() not in INPUT_SUFFIXES:": (
                "test_what_cannot_be_is_one_line"
            ),
            "if source == target or ": ("test_what_cannot_be_is_one_line", "if "),
        },
    ),
    Guards(
        "bulk/reading.py",
        "test_places.py",
        {'"spawn" if remote else None': ("test_what_is_vocoded_from_storage_to_storage", "None")},
    ),
    Guards(
        "bulk/jobs.py",
        "test_vocoder.py",
        {"if target in taken:": "test_vocode_answers_bad_usage_with_one_line_and_status_2"},
    ),
    Guards(
        "bulk/jobs.py",
        "test_bulk.py",
        {
            "if existing and not resume:": "test_existing_outputs_are_refused_before_any_work",
            "if own is None or own not in found.absolute().parents:": (
                "test_what_a_run_has_made_is_no_input_of_the_next",
                "if True:",
            ),
        },
    ),
    Guards(
        "bulk/decoding.py",
        "test_bulk.py",
        {"in _FOR_ALL:": ("test_a_full_or_protected_disk_stops_the_run", "in ():")},
    ),
    Guards(
        "bulk/decoding.py",
        "test_clipping.py",
        {
            "Clipping(waveform).warn(str(item.job.source))": ("test_vocode_names_the_file", ""),
            "clipping.warn(str(source))": ("test_vocode_names_the_file", ""),
        },
    ),
    Guards(
        "pipelines/vocoder.py",
        "test_clipping.py",
        {
            "Clipping(speech).warn()": ("test_decode_counts_what_it_clips", ""),
            "clipping.warn()": ("test_a_stream_says_so_once_at_its_end", ""),
        },
    ),
    Guards("app/events.py", "test_clipping.py", {"if fault := Clipping(speech).fault:": "test_the_page_shows_it"}),
]

SERVICE = [
    Guards(
        "app/guard.py",
        "test_app.py",
        {
            "if self.hosts and _name(host) not in self.hosts:": "test_hosts_and_origins_that_are_not_its_own",
            "if origin is not None and _authority(origin) != host:": "test_hosts_and_origins_that_are_not_its_own",
            "return None if self.token is None else self._unknown(self.token, scope, headers, query)": (
                "test_a_token_is_asked_for_by_header_cookie_or_once_in_the_address",
                "return None",
            ),
            'if "\\0" in path or "\\\\" in path or ".." in path.split("/") or path.startswith("//"):': (
                "test_addresses_outside_are_refused"
            ),
            "headers[name] = value": ("test_every_answer_forbids_what_the_page_does_not_need", "pass"),
        },
    ),
    Guards(
        "app/service.py",
        "test_app.py",
        {
            "    if count > most:": ("test_json_is_limited_too", "    if False:"),
            "elif count > patience:": "test_an_upload_is_counted_while_it_comes",
            "asyncio.timeout(limits.upload_seconds)": ("test_a_body_that_does_not_come", "asyncio.timeout(None)"),
        },
    ),
    Guards(
        "app/queue.py",
        "test_app.py",
        {
            "if self._pending > self._limits.waiting:": "test_many_clients_wait_in_a_queue_that_ends",
            "if self._stopped.is_set():": "test_work_ends_when_its_client_goes",
            "max(left, 0)": ("test_work_ends_when_its_time_is_over", "None"),
        },
    ),
    Guards(
        "app/requests.py",
        "test_app.py",
        {
            "if name not in known:": "test_options_that_are_not_possible_are_refused",
            ", parse_constant=refuse": ("test_what_json_does_not_know_is_refused_as_such", ""),
        },
    ),
    Guards(
        "cli/serve.py",
        "test_app.py",
        {"if token is None and not is_loopback(args.host):": "test_beyond_this_machine_a_token_is_made"},
    ),
]

HUB = [
    Guards(
        "models/hub.py",
        "test_hub.py",
        {
            "return not Path(text).exists() and not Path(text).parent.is_dir()": (
                "test_only_a_name_that_is_nothing_here_is_looked_for_on_the_hub",
                "return True",
            ),
            "exists = not overwrite and api.file_exists(repo_id, MODEL_FILE, revision=revision)": (
                "test_a_push_replaces_no_model_unasked",
                "exists = False",
            ),
        },
    )
]

TRAINING = [
    Guards(
        "training/guards.py",
        "test_training_faults.py",
        {
            "        _lock(file, folder)": ("test_a_second_run_in_a_folder", "        pass"),
            "weight.grad = None": ("test_a_step_without_a_finite_loss", "pass"),
            "bad = not figures.isfinite().all()": ("test_a_step_without_a_finite_loss", "bad = False"),
            "if self.bad_steps >= MAX_BAD_STEPS:": "test_a_run_that_only_gives_nan_ends",
            "            damaged = error\n            continue": ("test_a_damaged_newest_state", "            raise"),
            "        raise damaged": ("test_a_damaged_newest_state", "        return None"),
            'if getattr(rank_zero_only, "rank", None) in (None, 0) and sweep_temporaries(path.parent, of=[path]):': (
                "test_a_damaged_newest_state"
            ),
        },
    ),
    Guards(
        "training/callbacks.py",
        "test_training_faults.py",
        {
            "keep_previous(path)": ("test_a_damaged_newest_state", "pass"),
            "loss if loss is not None and math.isfinite(loss) else None": ("test_a_validation_loss_of_nan", "loss"),
            "(self._wrote or str(trainer.ckpt_path) == str(path))": ("test_a_damaged_newest_state", "True"),
        },
    ),
    Guards(
        "training/guards.py",
        "test_training_faults.py",
        {
            "with atomic_write(path, overwrite=True) as temporary:": (
                "test_a_kill_while_saving",
                "for temporary in [Path(path)]:",
            )
        },
    ),
    Guards(
        "cli/train.py",
        "test_training_faults.py",
        {
            "self._held.enter_context(occupied(root))": ("test_a_folder_that_cannot_be_written", "pass"),
            "raise memory_ran_out(error) or error from None": ("test_memory_that_runs_out", "raise"),
        },
    ),
]

SAMPLING = [
    Guards(
        "pipelines/extension.py",
        "test_extension.py",
        {
            "if rate != self.source_rate:": "test_other_rates_and_no_waveforms_are_errors",
            "(n == 0).double() - low_pass / low_pass.sum()": (
                "test_below_10_khz_it_is_the_sound",
                "(n == 0).double()",
            ),
            "patch[..., :WIDTH] *= rising": ("test_the_patches_join", "patch[..., :WIDTH] *= 0"),
            "lowest = start - (WIDTH if start == FIRST else WIDTH // 2)": (
                "test_noise_goes_on_without_a_gap",
                "lowest = start + WIDTH",
            ),
            "cycles = round(cycles * loop) / loop": ("test_a_loop_has_no_seam", "pass"),
            "sounds = wrap(sounds, _MARGIN)": ("test_a_loop_has_no_seam", "sounds = F.pad(sounds, (_MARGIN, _MARGIN))"),
            "low.amax((1, 2), keepdim=True)": ("test_ten_times_the_level", "torch.ones_like(low[:, :1, :1])"),
            "return within(low + octave)": ("test_nothing_exceeds_the_highest_peak", "return (low + octave)"),
            "SOURCE = (26, 56)": ("test_a_burst_begins", "SOURCE = (0, 1)"),
            "gain = (wanted / there": ("test_real_sounds_get_their_octave_back", "gain = (0.01 * wanted / there"),
        },
    ),
    Guards(
        "cli/candidates.py",
        "test_extension.py",
        {
            "(drawn_at, args.sample_rate) == (extension.source_rate, extension.sample_rate)": (
                "test_rates_that_cannot_be_had",
                "True",
            ),
        },
    ),
    Guards(
        "pipelines/generator.py",
        "test_generator.py",
        {"        if value is not None:": ("test_impossible_edits_are_refused", "        if False:")},
    ),
    Guards(
        "pipelines/pipeline.py",
        "test_compiled.py",
        {
            'return _disabled(function) if "torch._dynamo" in sys.modules else function': (
                "test_compiled_hosts_and_streams",
                "return function",
            )
        },
    ),
    Guards(
        "data/datamodule.py",
        "test_batches.py",
        {
            "range(rank, -(-number // world_size) * world_size, world_size)": (
                "test_every_device_validates_as_many_batches",
                "range(rank, number, world_size)",
            ),
            "if number == 0:": "test_a_validation_without_clips_is_refused",
        },
    ),
    Guards(
        "cli/train.py",
        "test_train_errors.py",
        {
            "parser_class=_Parser,": ("test_a_slip_in_a_recipe_is_one_line", "parser_class=LightningArgumentParser,"),
        },
    ),
    Guards(
        "diffusion/walk.py",
        "test_numerics.py",
        {"if not good:": "test_a_model_whose_output_overflows_gives_an_error"},
    ),
    Guards(
        "diffusion/noise.py",
        "test_vocoder.py",
        {"if len(seeds) != count:": "test_impossible_sampling_is_refused"},
    ),
    Guards(
        "diffusion/grids.py",
        "test_grids.py",
        {
            'return whole(num_steps, "num_steps", 1, most, SamplingError)': (
                "test_a_number_of_steps_that_was_not_trained_is_refused",
                "return num_steps",
            ),
        },
    ),
    Guards(
        "diffusion/grids.py",
        "test_vocoder.py",
        {
            "_check_trained(schedule, betas, alpha_bars)\n": ("test_impossible_sampling_is_refused", "pass\n"),
            "if any(later < earlier for earlier, later in itertools.pairwise(betas)):": (
                "test_impossible_sampling_is_refused"
            ),
        },
    ),
]

MACHINE = [
    Guards(
        "engine/precision.py",
        "test_precision.py",
        {"if slow_in_bfloat16(device):": "test_vocoding_warns_where_layers_in_bfloat16_would_be_slow"},
    ),
    Guards(
        "libraries.py",
        "test_environment.py",
        {
            'raise InstallationError(f"{pair} ({error.__cause__ or error}); {cure}") from error': (
                "test_a_torchaudio_for_another_torch_is_one_error_with_the_cure",
                "raise",
            )
        },
    ),
    Guards(
        "cli/search.py",
        "test_cli_search.py",
        {
            "check_output(folder / name, overwrite=args.overwrite or diary.exists())": (
                "test_a_model_that_no_search_wrote_is_not_replaced_unasked",
                "pass",
            )
        },
    ),
    Guards(
        "mel/phases.py",
        "test_harmonics.py",
        {
            "x.relu().square()": ("test_partials_lie_at_multiples", "x"),
            "stft.frames(spectrum * self.low)": ("test_partials_lie_at_multiples", "stft.frames(spectrum)"),
            " * (self._around(magnitude.square()) / self._around(finer.square())).sqrt()": (
                "test_power_stays_where_it_was",
                "",
            ),
            "amount * _rise": ("test_the_amount_is_an_exponent", "_rise"),
        },
    ),
    Guards(
        "mel/griffin_lim.py",
        "test_harmonics.py",
        {
            "if harmonics is not None and rate is stft and index == turn:": "test_a_guess_at_real_speech",
            "if self.harmonics is not None and index == ITERATIONS // 2:": "test_a_guess_at_real_speech",
        },
    ),
    Guards(
        "mel/phases.py",
        "test_stft.py",
        {
            "divisor = 2**octave": ("test_a_lower_rate_has_the_first_bins", "divisor = 1"),
        },
    ),
    Guards(
        "mel/griffin_lim.py",
        "test_stft.py",
        {
            "torch.cat([found, spectrum[..., bins:]], -1)": ("test_iterations_at_lower_rates_find", "spectrum"),
        },
    ),
    Guards(
        "mel/phases.py",
        "test_partials.py",
        {
            "((number - owner) % 2)": ("test_steady_tones_go_on", "(0 * owner)"),
            "(number + offset) * (spec": ("test_steady_tones_go_on", "number * (spec"),
            "for _ in range(_JUMPS):": ("test_each_bin_belongs_to_the_peak", "for _ in range(1):"),
            "frequency[:, -1:]": ("test_pieces_change_no_bit", "None"),
            "0.5 * (frequency + earlier.gather(-1, owner))": ("test_a_glide_is_followed", "frequency"),
        },
    ),
    Guards(
        "pipelines/pipeline.py",
        "test_hub.py",
        {"check_output(path, overwrite=overwrite)": ("test_nothing_in_a_folder_is_replaced", "pass")},
    ),
    Guards(
        "audio/finish.py",
        "test_clipping.py",
        {"biquad(waveform / scale) * scale": ("test_a_filter_leaves_loud_sounds_their_tops", "biquad(waveform)")},
    ),
    Guards(
        "diffusion/losses/spectral_loss.py",
        "test_spectral.py",
        {"scale=1.0, offset=0.0, ": ("test_the_spectral_loss_is_the_same_in_dialects", "")},
    ),
    Guards(
        "cli/search.py",
        "test_cli_search.py",
        {"dict(checkpoint.config.plans) | dict(curve.plans)": ("test_plans_for_other_numbers", "dict(curve.plans)")},
    ),
    Guards(
        "pipelines/circular.py",
        "test_generator.py",
        {"angle.sin() ** (2 * power)": ("test_the_transition_of_a_loop_begins", "(angle / angle[-1]) ** power")},
    ),
    Guards(
        "training/module.py",
        "test_own_classes.py",
        {"rows or [-1]": ("test_a_class_begins_as_the_mean_of_its_kinds", "[0]")},
    ),
    Guards(
        "backbones/adapter.py",
        "test_adapter.py",
        {
            "return same_bands(spec, self.mel)": ("test_mels_of_another_structure_are_not_its_own", "return True"),
            "flatten(1, 2) + self.louder": ("test_fresh_networks_keep_the_level_of_noise", "flatten(1, 2)"),
            'config.mel.framing == "same" else 0.0': ("test_centred_frames_stay_where_they_are", "True else 0.0"),
        },
    ),
    Guards(
        "models/denoiser.py",
        "test_adapter.py",
        {"else self.rates(signal)": ("test_speech_of_another_rate_is_resampled", "else signal")},
    ),
    Guards(
        "training/module.py",
        "test_adapter.py",
        {
            "config = unresampled(dataclasses.replace(config, **kept))": (
                "test_a_vocoder_that_is_trained_on_a_dialect_of_another_rate",
                "config = dataclasses.replace(config, **kept)",
            )
        },
    ),
    Guards(
        "audio/resampling.py",
        "test_resampling.py",
        {"(self.kernel.shape[-1] - self.unit) // 2": ("test_as_a_layer_it_is_the_same", "self.kernel.shape[-1] // 2")},
    ),
]
