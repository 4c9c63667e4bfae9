"""What requests do to jobs and tasks."""

from pathlib import Path

from tests.batch_service import wire
from tests.batch_service.jobs import Job, job_spec
from tests.batch_service.resources import checked
from tests.batch_service.routes import (
    Answer,
    Request,
    file_answer,
    folder_answer,
    job_of,
    listed,
    match,
    route,
    shown,
    written,
)
from tests.batch_service.service import BatchService
from tests.batch_service.wire import BatchError, Body


@route("POST", "/jobs")
def _add_job(service: BatchService, request: Request) -> Answer:
    asked = checked(request.body, "id")
    if asked["id"] in service.jobs:
        raise BatchError("JobExists")
    job = service.add_job(Job(service, asked["id"], job_spec(request.body, "id")))
    return written(service, 201, job, f"/jobs/{job.id}")


@route("GET", "/jobs")
def _list_jobs(service: BatchService, request: Request) -> Answer:
    return listed(service, request, "jobs", [job.view() for job in service.jobs.values()])


@route("GET", "/jobs/{}")
def _get_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name)
    return shown(service, job, "jobs", job.view())


@route("PATCH|PUT", "/jobs/{}")
def _update_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name, request)
    job.update(request.body, whole=request.method == "PUT")
    return written(service, 200, job, request.path)


@route("DELETE", "/jobs/{}")
def _delete_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name, request)
    if job.state == "deleting":
        raise BatchError("JobBeingDeleted")
    job.end("UserTerminate", "deleting")
    return Answer(202)


@route("POST", "/jobs/{}/disable")
def _disable_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name, request)
    job.disable(checked(request.body, "disableTasks")["disableTasks"])
    return written(service, 202, job, request.path)


@route("POST", "/jobs/{}/enable")
def _enable_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name, request)
    job.enable()
    return written(service, 202, job, request.path)


@route("POST", "/jobs/{}/terminate")
def _terminate_job(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name, request)
    job.terminate(request.body)
    return written(service, 202, job, request.path)


@route("GET", "/jobs/{}/taskcounts")
def _count_tasks(service: BatchService, request: Request, name: str) -> Answer:
    metadata = {"odata.metadata": f"{service.url}/$metadata#taskcountsresult/@Element"}
    return Answer(200, metadata | job_of(service, name).counts())


@route("GET", "/jobs/{}/jobpreparationandreleasetaskstatus")
def _preparation(service: BatchService, request: Request, name: str) -> Answer:
    job_of(service, name)
    return listed(service, request, "jobpreparationandreleasetaskstatuslist", [])


# ------------------------------------------------------------------------------- tasks


@route("POST", "/jobs/{}/tasks")
def _add_task(service: BatchService, request: Request, name: str) -> Answer:
    task = job_of(service, name).add(request.body)
    return written(service, 201, task, f"/jobs/{name}/tasks/{task.id}")


@route("POST", "/jobs/{}/addtaskcollection")
def _add_tasks(service: BatchService, request: Request, name: str) -> Answer:
    job = job_of(service, name)
    job.check_open()
    rows = [_added(service, job, task) for task in checked(request.body, "value")["value"]]
    metadata = f"{service.url}/$metadata#taskaddresult"
    return Answer(200, {"odata.metadata": metadata, "value": rows})


def _added(service: BatchService, job: Job, body: Body) -> Body:
    """Add one task of a collection; one that is refused does not stop the others."""
    try:
        task = job.add(body)
    except BatchError as error:
        refusal = error.body(service.url, service.clock.now())
        refusal.pop("odata.metadata")
        return {"status": "clienterror", "taskId": str(body.get("id")), "error": refusal}
    return {
        "status": "success",
        "taskId": task.id,
        "eTag": task.etag,
        "lastModified": wire.timestamp(task.modified),
        "location": f"{service.url}/jobs/{job.id}/tasks/{task.id}",
    }


@route("GET", "/jobs/{}/tasks")
def _list_tasks(service: BatchService, request: Request, name: str) -> Answer:
    rows = [task.view() for task in job_of(service, name).tasks.values()]
    return listed(service, request, "tasks", rows)


@route("GET", "/jobs/{}/tasks/{}")
def _get_task(service: BatchService, request: Request, job: str, name: str) -> Answer:
    task = job_of(service, job).task(name)
    return shown(service, task, "tasks", task.view())


@route("DELETE", "/jobs/{}/tasks/{}")
def _delete_task(service: BatchService, request: Request, job: str, name: str) -> Answer:
    task = job_of(service, job).task(name)
    match(request, task)
    task.delete()
    return Answer(200)


@route("PUT", "/jobs/{}/tasks/{}")
def _update_task(service: BatchService, request: Request, job: str, name: str) -> Answer:
    task = job_of(service, job).task(name)
    match(request, task)
    task.spec["constraints"] |= checked(request.body).get("constraints", {})
    task.changed(service.clock.now())
    return written(service, 200, task, request.path)


@route("POST", "/jobs/{}/tasks/{}/terminate")
def _terminate_task(service: BatchService, request: Request, job: str, name: str) -> Answer:
    task = job_of(service, job).task(name)
    match(request, task)
    task.terminate()
    return written(service, 204, task, request.path)


@route("POST", "/jobs/{}/tasks/{}/reactivate")
def _reactivate_task(service: BatchService, request: Request, job: str, name: str) -> Answer:
    task = job_of(service, job).task(name)
    match(request, task)
    task.reactivate()
    return written(service, 204, task, request.path)


@route("GET", "/jobs/{}/tasks/{}/files")
def _list_task_files(service: BatchService, request: Request, job: str, name: str) -> Answer:
    return folder_answer(service, request, _task_folder(service, job, name))


@route("GET|HEAD", "/jobs/{}/tasks/{}/files/{*}")
def _task_file(service: BatchService, request: Request, job: str, name: str, path: str) -> Answer:
    return file_answer(service, request, _task_folder(service, job, name), path)


def _task_folder(service: BatchService, job: str, name: str) -> Path:
    """Return where a task's files lie, as long as its node has them."""
    task = job_of(service, job).task(name)
    if task.node is None:
        raise BatchError("FileNotFound")
    if not task.here.is_dir() and task.state == "completed":
        raise BatchError("TaskFilesUnavailable")
    return Path(task.here)
